//! One scene for all tries of this process: a stand-in for Sealport, a hostile guest, another deployment's guest, and another
//! caller's instance of the hostile one's own deployment. It ends with the process.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::OnceCell;

use super::house::{
    House, PORT, Server, addresses_of_this_host, fixture_file, processes_with, spec,
};

/// Where a try finds a directory that is its own.
const OWN: &str = "@OWN@";

/// What the tries are told: whoever attacks is taken to know it all.
pub struct Facts {
    pub place: PathBuf,
    pub data: PathBuf,
    /// Text that nothing else holds.
    pub marker: String,
    /// The stand-in for Sealport: its process, where its memory holds the key, and the descriptor by which it reads it.
    pub sealport: u32,
    pub address: u64,
    pub descriptor: u64,
    pub segment: i32,
    /// Another deployment's guest: its process, its home, and the way into it.
    pub neighbour: u32,
    pub neighbours_home: PathBuf,
    pub neighbours_socket: PathBuf,
    /// Another caller's instance.
    pub twin: u32,
    pub twins_data: PathBuf,
    /// All ways in which this host could be named, and what listens there.
    pub hosts: Vec<String>,
    pub dashboard: u16,
    pub database: u16,
    pub datagrams: u16,
}

/// How it is shown that a try works where nothing stops it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It works outside of the walls.
    Outside,
    /// It works there for root, which is asked when this is root's run.
    Root,
    /// The same, in mounts of its own, which it may break.
    Apart,
    /// There is nowhere to show it.
    Nowhere,
}

pub struct Scene {
    pub house: House,
    pub facts: Facts,
    /// Made by the stand-in when a certain signal has come to it.
    pub struck: PathBuf,
    hostile: Server,
    _others: [Server; 2],
    /// It ends when its input does, at the latest with this process.
    _stand_in: Child,
}

impl Scene {
    /// Set at first use, by a thread that stays: what a test's own runtime started would end with the test.
    pub async fn shared() -> &'static Scene {
        static SCENE: OnceCell<Scene> = OnceCell::const_new();
        SCENE
            .get_or_init(|| async {
                let (tell, told) = tokio::sync::oneshot::channel();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread()
                        .worker_threads(1)
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let _ = tell.send(Scene::set().await);
                        std::future::pending::<()>().await;
                    });
                });
                told.await.expect("the scene is set")
            })
            .await
    }

    async fn set() -> Scene {
        let house = House::new(&[]).await;
        let place = house.place.path().to_owned();
        remove_at_the_end(&place);
        let open = |name: &str, mode: u32| {
            let path = place.join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        open("outside", 0o777);
        let callers = open("guests/callers", 0o711);
        let data = place.join("data");
        std::fs::create_dir(data.join("postgres")).unwrap();
        std::fs::write(data.join("postgres/PG_VERSION"), "canary-of-the-rows").unwrap();

        // As whoever started Sealport could have left one open: everything that is started from here inherits it.
        let key = std::fs::File::open(data.join("master.key")).unwrap();
        rustix::io::fcntl_setfd(&key, rustix::io::FdFlags::empty()).unwrap();
        std::mem::forget(key);

        let marker = house.marker("scene");
        let struck = place.join("struck");
        let segment = i32::from(rand::random::<u16>()) + 0x5ea1_0000;
        let facts = json!({
            "canary": "canary-of-the-key", "key": data.join("master.key"), "marker": marker, "segment": segment, "struck": struck,
        });
        let (stand_in, says) = stand_in(&facts);

        let of_caller = async |who: &str, uid: u32, home: &std::path::Path| {
            let mark = house.marker(who);
            let mut spec = spec(home, uid, &["node", "server.mjs", &mark]);
            let data = callers.join(who);
            house.sandbox.prepare_home(uid, &data).await.unwrap();
            spec.env = vec![
                ("PORT".into(), PORT.to_string().into()),
                ("TOKEN".into(), "canary-of-another".into()),
            ];
            (spec.listen, spec.home_is_shared, spec.data) = (Some(PORT), true, Some(data.clone()));
            let server = house.serve(spec).await;
            (server, data, one_with(&mark))
        };
        let shared = house.spec("hostile", &["true"]).await;
        let (hostile, ..) = of_caller("hostile", shared.uid, &shared.home).await;
        let (twin, twins_data, twins_pid) = of_caller("twin", shared.uid, &shared.home).await;
        let mark = house.marker("neighbour");
        let mut spec = house
            .spec("neighbour", &["node", "server.mjs", &mark])
            .await;
        spec.env.push(("TOKEN".into(), "canary-of-another".into()));
        let neighbour = house.serve(spec).await;
        for (server, path) in [
            (&twin, "/data/private"),
            (&twin, "/tmp/private"),
            (&neighbour, "/srv/private"),
            (&neighbour, "/tmp/private"),
        ] {
            server.does(json!({"what": "write", "path": path})).await;
        }

        let (hosts, [dashboard, database, datagrams]) = listening().await;
        let facts = Facts {
            data,
            marker,
            sealport: stand_in.id(),
            address: says["address"].as_u64().unwrap(),
            descriptor: says["descriptor"].as_u64().unwrap(),
            segment,
            neighbour: one_with(&mark),
            neighbours_home: neighbour.home.clone(),
            neighbours_socket: neighbour.guest.http_socket.clone().unwrap(),
            twin: twins_pid,
            twins_data,
            hosts,
            dashboard,
            database,
            datagrams,
            place,
        };
        Scene {
            house,
            facts,
            struck,
            hostile,
            _others: [twin, neighbour],
            _stand_in: stand_in,
        }
    }

    /// The hostile server tries it. Then, that it works outside.
    pub async fn tried(&self, order: Value, control: Control) {
        let said = self.outcome(&order).await;
        assert!(said.get("no").is_some(), "it worked: {order}\n{said}");
        self.works_outside(&order, control);
    }

    /// What came of it for the hostile server.
    pub async fn outcome(&self, order: &Value) -> Value {
        let run = json!({"what": "run", "argv": ["python3", "/srv/tries.py", of(order, "/data")]});
        let said = self.hostile.does(run).await;
        serde_json::from_str(said.as_str().unwrap()).unwrap()
    }

    fn works_outside(&self, order: &Value, control: Control) {
        let is_root = rustix::process::geteuid().is_root();
        let own = self.facts.place.join("outside");
        let mut words = vec!["python3"];
        match control {
            Control::Nowhere => return,
            Control::Root | Control::Apart if !is_root => return,
            Control::Apart => words = vec!["unshare", "--mount", "python3"],
            Control::Outside | Control::Root => {}
        }
        let ran = Command::new(words[0])
            .args(&words[1..])
            .arg(fixture_file("tries.py"))
            .arg(of(order, own.to_str().unwrap()))
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let works = said.get("ok").is_some();
        assert!(works, "control: it should work outside: {order}\n{said}");
    }
}

/// An order for one whose own directory this is.
pub fn of(order: &Value, own: &str) -> String {
    order.to_string().replace(OWN, own)
}

fn one_with(mark: &str) -> u32 {
    let [pid] = processes_with(mark)[..] else {
        panic!("the guest is one process");
    };
    pid
}

fn stand_in(facts: &Value) -> (Child, Value) {
    let mut child = Command::new("python3")
        .arg(fixture_file("tries.py"))
        .args(["--stand-in", &facts.to_string()])
        .env("SEALPORT_MASTER_KEY", "canary-of-the-key")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install python3 to run this test");
    let mut says = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut says)
        .unwrap();
    let says = serde_json::from_str(&says).expect("the stand-in stands");
    (child, says)
}

/// A dashboard on all addresses, a database on the loopback alone, and one who answers datagrams.
async fn listening() -> (Vec<String>, [u16; 3]) {
    let dashboard = TcpListener::bind("[::]:0").await;
    let dashboard = dashboard.expect("a host with IPv6, as the tests want one");
    let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let datagrams = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let ports = [
        dashboard.local_addr().unwrap().port(),
        database.local_addr().unwrap().port(),
        datagrams.local_addr().unwrap().port(),
    ];
    for listener in [dashboard, database] {
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    }
    tokio::spawn(async move {
        let mut said = [0; 16];
        while let Ok((_, from)) = datagrams.recv_from(&mut said).await {
            let _ = datagrams.send_to(b"here", from).await;
        }
    });
    let mut hosts: Vec<String> = [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.100",
        "::ffff:10.0.2.2",
        "fd00::2",
        "host.sealport.internal",
    ]
    .map(String::from)
    .into();
    hosts.extend(addresses_of_this_host());
    (hosts, ports)
}

/// Statics are never dropped, so a process that outlives this one removes what it leaves.
#[allow(clippy::zombie_processes)]
fn remove_at_the_end(place: &std::path::Path) {
    let script = "trap '' INT HUP TERM; read -r _; for i in 1 2 3 4 5; do rm -rf \"$1\" && exit; sleep 1; done";
    let mut reaper = Command::new("sh")
        .args(["-c", script, "reaper"])
        .arg(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .unwrap();
    std::mem::forget(reaper.stdin.take());
}
