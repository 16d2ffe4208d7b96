//! An nfs-ganesha of one's own: NFSv4.1 and 4.2 only, on a free port of 127.0.0.1, without rpcbind, everything that it
//! writes in one directory. It can be restarted from another process, which tests of recovery need.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The pseudo path of the exported folder.
pub const EXPORT: &str = "/export";
/// How long it may take to start or to end.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// After a start, state can be reclaimed for five seconds, and nobody gets anything new meanwhile.
    FiveSeconds,
    /// Everybody is served at once, and nothing can be reclaimed.
    None,
}

/// The server, ended when this is dropped.
#[derive(Debug)]
pub struct Ganesha {
    dir: PathBuf,
    address: SocketAddr,
    process: Child,
}

impl Ganesha {
    /// Starts it with everything that it writes below `dir`, which must not be on overlayfs.
    pub fn start(dir: &Path, grace: Grace) -> anyhow::Result<Self> {
        let export = dir.join("export");
        fs::create_dir_all(&export)?;
        let (folder, module) = (export.display(), module("vfs")?);
        Self::serve(dir, grace, &module, &format!(r#"Path = "{folder}"; FSAL {{ Name = VFS; }}"#))
    }

    /// Starts one that keeps no files: it is itself an NFSv4.1 client, of the server at `behind`, and shows that one's
    /// tree.
    pub fn in_front_of(dir: &Path, behind: SocketAddr) -> anyhow::Result<Self> {
        let (ip, port, module) = (behind.ip(), behind.port(), module("proxy_v4")?);
        let fsal = format!("Name = PROXY_V4; Srv_Addr = {ip}; NFS_Port = {port}; Use_Privileged_Client_Port = false;");
        Self::serve(dir, Grace::None, &module, &format!(r#"Path = "/"; FSAL {{ {fsal} }}"#))
    }

    fn serve(dir: &Path, grace: Grace, module: &Path, export: &str) -> anyhow::Result<Self> {
        let recovery = dir.join("recovery");
        fs::create_dir_all(&recovery)?;
        // Somebody else may take the port in between; then the start fails and says so.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        fs::write(dir.join("address"), address.to_string())?;
        fs::write(dir.join("ganesha.conf"), configuration(export, &recovery, address, grace, module)?)?;
        let process = launch(dir, address)?;
        Ok(Self { dir: dir.to_owned(), address, process })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that it was started in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        // It has nothing that anybody will want again. After a restart it is another process than the first.
        if let Ok(pid) = pid(&self.dir) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends the server that was started in `dir`, abruptly, and starts it again; from any process.
pub fn restart(dir: &Path) -> anyhow::Result<()> {
    let address = fs::read_to_string(dir.join("address"))?.parse()?;
    kill(pid(dir)?, Signal::SIGKILL).context("ending ganesha")?;
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        ensure!(start.elapsed() < LIMIT, "ganesha does not end");
        std::thread::sleep(LOOK_EVERY);
    }
    // It is nobody's child any more, and is ended through its pid.
    launch(dir, address).map(drop)
}

fn pid(dir: &Path) -> anyhow::Result<Pid> {
    let text = fs::read_to_string(dir.join("process")).context("the number of ganesha's process")?;
    Ok(Pid::from_raw(text.trim().parse()?))
}

fn launch(dir: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    let log = dir.join("log");
    let mut process = Command::new("ganesha.nfsd")
        .arg("-F")
        .arg("-f")
        .arg(dir.join("ganesha.conf"))
        .arg("-L")
        .arg(&log)
        .arg("-p")
        .arg(dir.join("pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("ganesha.nfsd cannot be started: apt-get install nfs-ganesha nfs-ganesha-vfs")?;
    fs::write(dir.join("process"), process.id().to_string())?;
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if process.try_wait()?.is_some() || start.elapsed() > LIMIT {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
            bail!("ganesha did not start; the end of its log: {}", tail(&log));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(process)
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

fn configuration(
    export: &str,
    recovery: &Path,
    address: SocketAddr,
    grace: Grace,
    module: &Path,
) -> anyhow::Result<String> {
    let plugins = module.parent().context("a module is in a directory")?;
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
    Graceless = {graceless}; Grace_Period = 5; Lease_Lifetime = 60; Minor_Versions = 1,2;
    RecoveryBackend = "fs"; RecoveryRoot = "{recovery}";
    Only_Numeric_Owners = true; Allow_Numeric_Owners = true; UseGetpwnam = false; Delegations = false;
}}
EXPORT_DEFAULTS {{ Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4; Transports = TCP; }}
EXPORT {{ Export_Id = 1; Pseudo = "{EXPORT}"; {export} Attr_Expiration_Time = 0; }}
LOG {{ Default_Log_Level = EVENT; }}
"#,
        graceless = grace == Grace::None,
        port = address.port(),
        ip = address.ip(),
        plugins = plugins.display(),
        recovery = recovery.display(),
    ))
}

/// One of ganesha's file system modules, where the distribution keeps them.
fn module(name: &str) -> anyhow::Result<PathBuf> {
    let machine = std::env::consts::ARCH;
    [format!("/usr/lib/{machine}-linux-gnu/ganesha"), "/usr/lib64/ganesha".to_owned(), "/usr/lib/ganesha".to_owned()]
        .map(PathBuf::from)
        .into_iter()
        .map(|dir| dir.join(format!("libfsal{name}.so")))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("a module of ganesha is missing: apt-get install nfs-ganesha-{}", name.replace('_', "-"))
        })
}
