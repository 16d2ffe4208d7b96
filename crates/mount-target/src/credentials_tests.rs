//! The AWS chain reads environment variables and files, so each case runs in a process of its own, whose environment
//! holds nothing but what the case says. The instance service is a loopback address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::*;

const PROFILE: &str = "MT_TEST_PROFILE";

/// Not a test: what the processes below run.
#[tokio::test]
#[ignore = "runs in the processes that the other tests start"]
async fn child() {
    let settings = AwsSettings { profile: std::env::var(PROFILE).ok() };
    let region = settings.region().await;
    println!("REGION {region:?}");
    let source = CredentialsSource::from_settings(settings, "us-east-1".parse().unwrap());
    match source.load(SystemTime::now()).await {
        Ok(found) => println!("FOUND {} {:?}", found.access_key_id(), found.session_token()),
        Err(error) => println!("ERROR {error:?}\nTEXT {error}"),
    }
}

fn run(home: &Path, env: &[(&str, &str)]) -> String {
    let started = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "credentials::tests::child", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(14), "took {:?}", started.elapsed());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("SECRETKEY"), "{text}");
    text
}

fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    home
}

const TWO_PROFILES: &str = "[default]\nregion = eu-west-1\naws_access_key_id = AKIDDEFAULT\n\
    aws_secret_access_key = SECRETKEY\n[profile work]\nregion = eu-west-3\naws_access_key_id = AKIDWORK\n\
    aws_secret_access_key = SECRETKEY\naws_session_token = tok\n[profile bare]\nregion = us-west-2\n";

#[test]
fn the_default_profile_gives_credentials_and_region() {
    let text = run(home(TWO_PROFILES).path(), &[]);
    assert!(text.contains("FOUND AKIDDEFAULT None") && text.contains("eu-west-1"), "{text}");
}

#[test]
fn the_environment_wins_over_the_default_profile_but_not_over_a_named_one() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "SECRETKEY"), ("AWS_REGION", "sa-east-1")];
    let text = run(home(TWO_PROFILES).path(), &keys);
    assert!(text.contains("FOUND AKIDENV") && text.contains("sa-east-1"), "{text}");
    let text = run(home(TWO_PROFILES).path(), &[keys[0], keys[1], keys[2], (PROFILE, "work")]);
    assert!(text.contains("FOUND AKIDWORK Some(\"tok\")") && text.contains("eu-west-3"), "{text}");
}

#[test]
fn an_unknown_profile_is_named() {
    let text = run(home(TWO_PROFILES).path(), &[(PROFILE, "nowhere")]);
    assert!(text.contains("ERROR UnknownProfile") && text.contains("`nowhere`"), "{text}");
}

#[test]
fn a_profile_without_credentials_says_so() {
    let text = run(home(TWO_PROFILES).path(), &[(PROFILE, "bare")]);
    assert!(text.contains("ERROR NoCredentials") && text.contains("`bare`"), "{text}");
}

#[test]
fn a_credential_process_is_run() {
    let config = "[default]\ncredential_process = /bin/echo {\"Version\":1,\"AccessKeyId\":\"AKIDPROC\",\
        \"SecretAccessKey\":\"SECRETKEY\"}\n";
    let config = config.replace("echo {", "echo '{").replace("}\n", "}'\n");
    let text = run(home(&config).path(), &[]);
    assert!(text.contains("FOUND AKIDPROC"), "{text}");
}

#[test]
fn credentials_that_ended_are_expired() {
    let config = "[default]\ncredential_process = /bin/echo '{\"Version\":1,\"AccessKeyId\":\"AKIDPROC\",\
        \"SecretAccessKey\":\"SECRETKEY\",\"Expiration\":\"2020-01-01T00:00:00Z\"}'\n";
    let text = run(home(config).path(), &[]);
    assert!(text.contains("ERROR CredentialsExpired"), "{text}");
}

const SSO: &str = "[default]\nsso_session = corp\nsso_account_id = 012345678901\nsso_role_name = R\n\
    [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://example.invalid/start\n";

#[test]
fn an_sso_profile_without_a_session_asks_for_a_login() {
    let text = run(home(SSO).path(), &[]);
    assert!(text.contains("ERROR CredentialsExpired") && text.contains("aws sso login"), "{text}");
}

#[test]
fn an_expired_sso_session_asks_for_a_login() {
    let home = home(SSO);
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    // The file's name is the SHA-1 of the session's name.
    let name = crate::signature::PublicKeyHash::of_public_key_bits(b"corp").to_hex();
    let token = r#"{"accessToken":"SECRETKEY","expiresAt":"2020-01-01T00:00:00Z","startUrl":"https://example.invalid/start","region":"us-east-1"}"#;
    std::fs::write(cache.join(format!("{name}.json")), token).unwrap();
    let text = run(home.path(), &[]);
    assert!(text.contains("ERROR CredentialsExpired") && text.contains("aws sso login"), "{text}");
}

#[test]
fn nothing_configured_ends_within_ten_seconds_though_the_instance_service_never_answers() {
    // Accepts (the kernel does) and stays silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let empty = tempfile::tempdir().unwrap();
    let text = run(empty.path(), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]);
    assert!(text.contains("ERROR NoCredentials") && text.contains("REGION None"), "{text}");
}
