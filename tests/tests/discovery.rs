//! A load balancer's name is enough, and `list` shows what there is: against a stand-in for AWS on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use whole_product_tests::{Done, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(40);
const HOST: &str = "My-NLB-0a1b2c3d4e5f6789.elb.us-east-1.amazonaws.com";

/// Speaks for elbv2 (queries and XML) and s3files (paths and JSON). Everything that is asked is noted.
struct StandIn {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// `denied`: the action that the credentials lack.
    fn start(denied: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || while serve(&stream, denied, &noted).is_some() {});
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn ask(&self, lab: &Lab, arguments: &[&str]) -> Done {
        let mut command = lab.product(arguments);
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secretsecret");
        command.env("AWS_ENDPOINT_URL", &self.address).env("AWS_REGION", "us-east-1");
        run(&mut command, ANSWER).unwrap()
    }
}

/// One request; `None` at the end of the connection.
fn serve(stream: &TcpStream, denied: &str, noted: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|len| *len > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = first.split_whitespace().nth(1)?.to_owned();
    let action = match body.split('&').find_map(|pair| pair.strip_prefix("Action=")) {
        Some(action) => action.to_owned(),
        None => match path.split('?').next()? {
            "/mount-targets" => "ListMountTargets".to_owned(),
            "/file-systems" => "ListFileSystems".to_owned(),
            "/access-points" => "ListAccessPoints".to_owned(),
            other => other.to_owned(),
        },
    };
    noted.lock().unwrap().push(action.clone());
    let (status, answer) = if action == denied { refusal(&path) } else { ("200 OK", answer(&action, &path)) };
    let kind = if answer.starts_with('<') { "text/xml" } else { "application/json" };
    write!(
        { stream },
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nx-amzn-RequestId: 1\r\n\r\n{answer}",
        answer.len()
    )
    .ok()
}

fn refusal(path: &str) -> (&'static str, String) {
    let said = "User: arn:aws:iam::123456789012:user/joe is not authorized";
    match path {
        "/" => (
            "403 Forbidden",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{said}</Message></Error>\
                 <RequestId>1</RequestId></ErrorResponse>"
            ),
        ),
        _ => ("403 Forbidden", format!("{{\"__type\":\"AccessDeniedException\",\"message\":\"{said}\"}}")),
    }
}

fn xml(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><{action}Result>{result}\
         </{action}Result></{action}Response>"
    )
}

fn answer(action: &str, path: &str) -> String {
    match action {
        "DescribeLoadBalancers" => xml(
            action,
            "<LoadBalancers><member><LoadBalancerArn>arn:other</LoadBalancerArn><DNSName>other.example</DNSName></member>\
             <member><LoadBalancerArn>arn:mine</LoadBalancerArn>\
             <DNSName>my-nlb-0A1B2C3D4E5F6789.elb.us-east-1.amazonaws.com</DNSName></member></LoadBalancers>",
        ),
        "DescribeTargetGroups" => xml(
            action,
            "<TargetGroups><member><TargetGroupArn>arn:group</TargetGroupArn><VpcId>vpc-1</VpcId>\
             <TargetType>ip</TargetType></member></TargetGroups>",
        ),
        "DescribeTargetHealth" => xml(
            action,
            "<TargetHealthDescriptions><member><Target><Id>10.0.0.5</Id><Port>2049</Port></Target>\
             <TargetHealth><State>healthy</State></TargetHealth></member></TargetHealthDescriptions>",
        ),
        // Two pages; the address repeats in another VPC.
        "ListMountTargets" if !path.contains("nextToken") => "{\"nextToken\":\"more\",\"mountTargets\":[\
            {\"mountTargetId\":\"fsmt-0bbbbbbbbbbbbbbbb\",\"fileSystemId\":\"fs-0bbbbbbbbbbbbbbbb\",\"vpcId\":\"vpc-2\",\
            \"ipv4Address\":\"10.0.0.5\",\"ownerId\":\"123456789012\",\"subnetId\":\"subnet-2\",\"status\":\"available\"}]}"
            .to_owned(),
        "ListMountTargets" => "{\"mountTargets\":[\
            {\"mountTargetId\":\"fsmt-0aaaaaaaaaaaaaaaa\",\"fileSystemId\":\"fs-0aaaaaaaaaaaaaaaa\",\"vpcId\":\"vpc-1\",\
            \"ipv4Address\":\"10.0.0.5\",\"availabilityZoneId\":\"use1-az1\",\"ownerId\":\"123456789012\",\
            \"subnetId\":\"subnet-1\",\"status\":\"available\"}]}"
            .to_owned(),
        "ListFileSystems" => "{\"fileSystems\":[\
            {\"fileSystemId\":\"fs-0aaaaaaaaaaaaaaaa\",\"fileSystemArn\":\"arn:a\",\"bucket\":\"arn:aws:s3:::photos\",\
            \"creationTime\":1795284000,\"status\":\"available\",\"roleArn\":\"arn:r\",\"ownerId\":\"123456789012\",\
            \"name\":\"Photos\\nof mine\"},\
            {\"fileSystemId\":\"fs-0cccccccccccccccc\",\"fileSystemArn\":\"arn:c\",\"bucket\":\"arn:aws:s3:::new\",\
            \"creationTime\":1795284000,\"status\":\"error\",\"statusMessage\":\"role cannot be assumed\",\
            \"roleArn\":\"arn:r\",\"ownerId\":\"123456789012\"}]}"
            .to_owned(),
        "ListAccessPoints" if path.contains("fs-0aaaaaaaaaaaaaaaa") => "{\"accessPoints\":[\
            {\"accessPointId\":\"fsap-0123456789abcdef0\",\"accessPointArn\":\"arn:p\",\"status\":\"available\",\
            \"fileSystemId\":\"fs-0aaaaaaaaaaaaaaaa\",\"ownerId\":\"123456789012\",\
            \"posixUser\":{\"uid\":501,\"gid\":20},\"rootDirectory\":{\"path\":\"/joe\"}}]}"
            .to_owned(),
        "ListAccessPoints" => "{\"accessPoints\":[]}".to_owned(),
        other => panic!("{other} was not expected"),
    }
}

#[test]
fn a_load_balancers_name_alone_leads_to_the_file_system_behind_it() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let aws = StandIn::start("");
    // The name does not resolve here, so the way ends behind the step that asks AWS.
    let done = aws.ask(&lab, &["doctor", HOST, "--json", "--clock", "none"]);
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let target = &json["steps"][0];
    assert_eq!((target["step"].as_str(), target["state"].as_str()), (Some("target"), Some("ok")), "{done:?}");
    assert!(target["detail"].as_str().unwrap().starts_with("fs-0aaaaaaaaaaaaaaaa in us-east-1"), "{done:?}");
    let asked = [
        "DescribeLoadBalancers",
        "DescribeTargetGroups",
        "DescribeTargetHealth",
        "ListMountTargets",
        "ListMountTargets",
    ];
    assert_eq!(aws.asked(), asked);
    // Whoever names the file system asks nobody.
    let asks = aws.asked().len();
    aws.ask(&lab, &["doctor", HOST, "--file-system-id", "fs-0aaaaaaaaaaaaaaaa", "--clock", "none"]);
    assert_eq!(aws.asked().len(), asks);
}

#[test]
fn each_missing_permission_is_named_with_the_option_that_needs_none() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    for action in ["DescribeLoadBalancers", "DescribeTargetGroups", "DescribeTargetHealth", "ListMountTargets"] {
        let service = if action.starts_with("List") { "s3files" } else { "elasticloadbalancing" };
        let aws = StandIn::start(action);
        let done = aws.ask(&lab, &["ls", HOST]);
        assert_eq!(done.code(), 12, "{done:?}");
        assert_eq!(done.stderr.trim_end().lines().count(), 1, "{done:?}");
        for word in [&format!("{service}:{action}"), "--file-system-id", "is not authorized"] {
            assert!(done.stderr.contains(word), "`{word}` is not in {done:?}");
        }
    }
}

#[test]
fn a_name_that_the_account_does_not_have_is_said() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let aws = StandIn::start("");
    let done = aws.ask(&lab, &["ls", "nobodys-1234.elb.us-east-1.amazonaws.com"]);
    assert_eq!(
        (done.code(), done.stderr.contains("no load balancer of that name in us-east-1")),
        (2, true),
        "{done:?}"
    );
}

#[test]
fn list_shows_file_systems_with_their_ways_in() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let aws = StandIn::start("");
    let done = aws.ask(&lab, &["list"]).ok().unwrap();
    for line in [
        "fs-0aaaaaaaaaaaaaaaa  available  s3://photos  \"Photos?of mine\"",
        "    mount target fsmt-0aaaaaaaaaaaaaaaa  available  use1-az1  10.0.0.5",
        "        use1-az1.fs-0aaaaaaaaaaaaaaaa.s3files.us-east-1.on.aws",
        "    access point fsap-0123456789abcdef0  available  /joe  everybody is 501:20",
        "fs-0cccccccccccccccc  error  s3://new",
        "    role cannot be assumed",
        "    no mount target; make one in the VPC and zone that you come from",
    ] {
        assert!(done.stdout.lines().any(|shown| shown == line), "`{line}` is not in\n{}", done.stdout);
    }
    let json: Value = serde_json::from_str(&aws.ask(&lab, &["list", "--json"]).ok().unwrap().stdout).unwrap();
    assert_eq!(json["file_systems"][0]["access_points"][0]["uid"], 501);
    assert_eq!(json["file_systems"][0]["mount_targets"][0]["az_id"], "use1-az1");
    let refused = StandIn::start("ListAccessPoints").ask(&lab, &["list"]);
    assert_eq!((refused.code(), refused.stderr.contains("s3files:ListAccessPoints")), (12, true), "{refused:?}");
}

#[test]
fn aws_out_of_reach_is_said_with_the_way_around() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let aws = StandIn { address: format!("http://{closed}"), asked: Arc::default() };
    let done = aws.ask(&lab, &["ls", HOST]);
    assert_eq!(done.code(), 7, "{done:?}");
    assert!(done.stderr.contains("did not answer") && done.stderr.contains("--file-system-id"), "{done:?}");
}
