//! A real Kannel on ports of its own: bearerbox, smsbox, and the fake SMS centre that Debian ships with it.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_test_database::free_port;
use tempfile::TempDir;

const BEARERBOX: &str = "/usr/sbin/bearerbox";
const SMSBOX: &str = "/usr/sbin/smsbox";
const FAKE_CENTRE: &str = "/usr/lib/kannel/test/fakesmsc";
/// The user's name.
pub const USER: &str = "postern";
/// The user's password.
pub const PASSWORD: &str = "a-password-of-kannel";
/// Numbers that begin like this have no route.
pub const UNROUTABLE: &str = "+4177";

/// Kannel, running.
#[derive(Debug)]
pub struct Kannel {
    dir: TempDir,
    sendsms: u16,
    bearerbox: Process,
    others: Vec<Process>,
}

/// A process with all that it starts.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(dir: &Path, program: &str, args: &[&str], output: &str) -> Self {
        assert!(
            Path::new(program).exists(),
            "{program} is needed: install Debian's packages `kannel` and `kannel-extras`"
        );
        let out = File::create(dir.join(output)).unwrap();
        let mut command = Command::new(program);
        command.current_dir(dir).args(args).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        // Smsbox starts itself anew when bearerbox is gone.
        Self(command.process_group(0).spawn().unwrap())
    }

    fn kill(&mut self) {
        drop(Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status());
        drop(self.0.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Kannel {
    /// Starts all three and waits until a text would go through.
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let [admin, boxes, centre, sendsms] = [(); 4].map(|()| free_port());
        std::fs::write(dir.path().join("kannel.conf"), configuration(admin, boxes, centre, sendsms)).unwrap();
        let bearerbox = Process::start(dir.path(), BEARERBOX, &["kannel.conf"], "bearerbox.out");
        listens(centre);
        listens(boxes);
        let port = centre.to_string();
        let fake = ["-H", "127.0.0.1", "-r", &port, "-m", "0", "100 200 text nop"];
        let fake = Process::start(dir.path(), FAKE_CENTRE, &fake, "centre.out");
        let smsbox = Process::start(dir.path(), SMSBOX, &["kannel.conf"], "smsbox.out");
        listens(sendsms);
        let kannel = Self { dir, sendsms, bearerbox, others: vec![fake, smsbox] };
        kannel.until("the centre is connected", || {
            let status = http_get(admin, "/status.txt?password=a-status").unwrap_or_default();
            status.contains("online") && status.contains("(on-line")
        });
        kannel
    }

    /// The section of the issuer's configuration for it; its password lies in `dir`.
    pub fn gateway(&self, dir: &Path) -> String {
        let file = dir.join("kannel.password");
        if !file.exists() {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).unwrap();
            writeln!(file, "{PASSWORD}").unwrap();
        }
        let url = format!("http://127.0.0.1:{}/cgi-bin/sendsms", self.sendsms);
        format!(
            "[[gateway]]\nkind = \"kannel\"\nurl = \"{url}\"\nuser = \"{USER}\"\npassword_file = \"kannel.password\"\nfrom = \"Postern\"\n"
        )
    }

    /// What the centre got for this number, oldest first.
    pub fn texts_to(&self, phone: &str) -> Vec<String> {
        let said = std::fs::read_to_string(self.dir.path().join("centre.out")).unwrap();
        // `Got message 1: <FROM TO text WORDS>`
        let begin = format!("<Postern {phone} text ");
        let text = |line: &str| Some(line.split_once(&begin)?.1.strip_suffix('>')?.to_owned());
        said.lines().filter_map(text).collect()
    }

    /// Waits for a text to this number, and returns its code.
    pub fn code_for(&self, phone: &str) -> String {
        self.until("the text arrives", || !self.texts_to(phone).is_empty());
        let text = self.texts_to(phone).pop().unwrap();
        text.strip_prefix("Your Postern code is ").unwrap().to_owned()
    }

    /// kill -9.
    pub fn kill_bearerbox(&mut self) {
        self.bearerbox.kill();
        // Smsbox has noticed once it takes no more texts.
        let sendsms = self.sendsms;
        self.until("smsbox goes too", || TcpStream::connect(("127.0.0.1", sendsms)).is_err());
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let said = || -> String {
            let outputs = ["bearerbox.out", "centre.out", "smsbox.out"].map(|name| self.dir.path().join(name));
            outputs.iter().map(|path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default()).collect()
        };
        wait(holds, || format!("waited in vain: {what}\n{}", said()));
    }
}

impl Drop for Kannel {
    fn drop(&mut self) {
        self.others.clear();
    }
}

/// Waits until it holds, or fails.
pub fn wait(holds: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{}", otherwise());
}

fn listens(port: u16) {
    wait(|| TcpStream::connect(("127.0.0.1", port)).is_ok(), || format!("nobody listens on {port}"));
}

/// The body of an answer.
fn http_get(port: u16, path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn configuration(admin: u16, boxes: u16, centre: u16, sendsms: u16) -> String {
    format!(
        "group = core
admin-port = {admin}
admin-interface = \"127.0.0.1\"
admin-password = an-admin
status-password = a-status
smsbox-port = {boxes}
smsbox-interface = \"127.0.0.1\"
box-deny-ip = \"*.*.*.*\"
box-allow-ip = \"127.0.0.1\"
dlr-storage = internal

group = smsc
smsc = fake
smsc-id = fake
port = {centre}
connect-allow-ip = 127.0.0.1
denied-prefix = \"{UNROUTABLE}\"

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {boxes}
sendsms-port = {sendsms}
sendsms-interface = \"127.0.0.1\"

group = sendsms-user
username = {USER}
password = {PASSWORD}
max-messages = 1
user-deny-ip = \"*.*.*.*\"
user-allow-ip = \"127.0.0.1\"

group = sms-service
keyword = default
text = none
max-messages = 0
"
    )
}
