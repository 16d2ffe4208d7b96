//! An nfs-ganesha of the test's own: NFSv4.1 and 4.2 only, on a free port of 127.0.0.1, without rpcbind.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The pseudo path of the exported folder.
pub const EXPORT: &str = "/export";

/// The server, ended when this is dropped.
#[derive(Debug)]
pub struct Ganesha {
    process: Child,
    address: SocketAddr,
}

impl Ganesha {
    /// Starts it with everything it writes below `dir`, which must not be on overlayfs.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let (export, recovery) = (dir.join("export"), dir.join("recovery"));
        fs::create_dir_all(&export)?;
        fs::create_dir_all(&recovery)?;
        // Somebody else may take the port in between; then the start fails and says so.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = dir.join("ganesha.conf");
        fs::write(&config, configuration(&export, &recovery, address)?)?;
        let log = dir.join("log");
        let process = Command::new("ganesha.nfsd")
            .arg("-F")
            .arg("-f")
            .arg(&config)
            .arg("-L")
            .arg(&log)
            .arg("-p")
            .arg(dir.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("ganesha.nfsd cannot be started: apt-get install nfs-ganesha nfs-ganesha-vfs")?;
        let mut server = Self { process, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if server.process.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(20) {
                bail!("ganesha did not start; the end of its log: {}", tail(&log));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        // It has nothing that anybody will want again.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tail(log: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(log) {
        let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
        let _ = file.seek(SeekFrom::Start(end.saturating_sub(2000)));
        let _ = file.read_to_string(&mut text);
    }
    text
}

fn configuration(export: &Path, recovery: &Path, address: SocketAddr) -> anyhow::Result<String> {
    let plugins = plugins()?;
    Ok(format!(
        r#"
NFS_CORE_PARAM {{
    NFS_Port = {port}; Bind_addr = {ip}; Protocols = 4;
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
    MNT_Port = 0; NLM_Port = 0; Rquota_Port = 0; Clustered = false;
    Plugins_Dir = "{plugins}";
}}
NFS_KRB5 {{ Active_krb5 = false; }}
NFSv4 {{
    Graceless = true; Lease_Lifetime = 60; Minor_Versions = 1,2;
    RecoveryBackend = "fs"; RecoveryRoot = "{recovery}";
    Only_Numeric_Owners = true; Allow_Numeric_Owners = true; UseGetpwnam = false; Delegations = false;
}}
EXPORT_DEFAULTS {{ Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4; Transports = TCP; }}
EXPORT {{ Export_Id = 1; Path = "{export}"; Pseudo = "{EXPORT}"; FSAL {{ Name = VFS; }} Attr_Expiration_Time = 0; }}
LOG {{ Default_Log_Level = EVENT; }}
"#,
        port = address.port(),
        ip = address.ip(),
        plugins = plugins.display(),
        recovery = recovery.display(),
        export = export.display(),
    ))
}

/// Where the distribution keeps ganesha's file system modules.
fn plugins() -> anyhow::Result<PathBuf> {
    let machine = std::env::consts::ARCH;
    [format!("/usr/lib/{machine}-linux-gnu/ganesha"), "/usr/lib64/ganesha".to_owned(), "/usr/lib/ganesha".to_owned()]
        .map(PathBuf::from)
        .into_iter()
        .find(|dir| dir.join("libfsalvfs.so").is_file())
        .context("ganesha's module for local folders is missing: apt-get install nfs-ganesha-vfs")
}
