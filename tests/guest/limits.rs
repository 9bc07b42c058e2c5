//! What a guest tries to take of the host beyond its share.

use sealport::deploy::sandbox::{GuestExit, GuestSpec, Limits, TooMuch};

use super::house::{House, PATIENCE, output};

fn small() -> Limits {
    Limits {
        memory_bytes: 64 << 20,
        open_files: 77,
        processes: 40,
        file_bytes: 1 << 20,
        ..Limits::default()
    }
}

async fn guest(house: &House, limits: Limits, argv: &[&str]) -> GuestSpec {
    let mut spec = house.spec("greedy", argv).await;
    spec.listen = None;
    spec.limits = limits;
    spec
}

async fn said(house: &House, limits: Limits, argv: &[&str]) -> String {
    let spec = guest(house, limits, argv).await;
    output(house.sandbox.spawn(spec).await.unwrap()).await
}

async fn end(house: &House, limits: Limits, argv: &[&str]) -> (GuestExit, Option<TooMuch>) {
    let spec = guest(house, limits, argv).await;
    let mut guest = house.sandbox.spawn(spec).await.unwrap();
    let exit = tokio::time::timeout(2 * PATIENCE, guest.wait()).await;
    (exit.expect("it is ended"), guest.took_too_much())
}

#[tokio::test]
async fn a_guest_is_limited_and_cannot_lift_that() {
    let house = House::new(&[]).await;
    let script = "ulimit -n; ulimit -c; ulimit -d; ulimit -f; cat /proc/self/oom_score_adj; ulimit -n 78 || echo kept";
    let said = said(&house, small(), &["bash", "-c", script]).await;
    assert_eq!(said, "77\n0\n65536\n1024\n500\nkept\n");
    // What servers get is enough for what reserves far more than it uses.
    let wasm = "new WebAssembly.Memory({initial: 100, maximum: 65536}); console.log('grew')";
    let said = self::said(&house, Limits::default(), &["node", "-e", wasm]).await;
    assert_eq!(said, "grew\n");
}

#[tokio::test]
async fn takes_all_memory() {
    let house = House::new(&[]).await;
    let hungry = "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1))";
    let limits = Limits {
        memory_bytes: 512 << 20,
        ..Limits::default()
    };
    let (exit, _) = end(&house, limits, &["node", "-e", hungry]).await;
    assert!(!exit.success(), "{exit}");
}

#[tokio::test]
async fn takes_all_memory_with_many_processes() {
    let house = House::new(&[]).await;
    let many = "const all = Buffer.alloc(150 << 20, 1); setInterval(() => all.length, 1000)";
    let many = format!("for i in 1 2 3 4; do node -e '{many}' & done; wait");
    let limits = Limits {
        memory_bytes: 512 << 20,
        ..Limits::default()
    };
    let (exit, of) = end(&house, limits, &["sh", "-c", &many]).await;
    assert!(exit.code == 137 && of == Some(TooMuch::Memory), "{exit}");
}

/// Shared with nobody but itself: no file holds it, and its limit of data does not count it.
#[tokio::test]
async fn takes_all_memory_as_shared() {
    let house = House::new(&[]).await;
    let shared = "import mmap, time\nall = mmap.mmap(-1, 400 << 20)\n\
                  for at in range(0, len(all), 4096): all[at] = 1\ntime.sleep(600)";
    let limits = Limits {
        memory_bytes: 256 << 20,
        ..Limits::default()
    };
    let (exit, of) = end(&house, limits, &["python3", "-c", shared]).await;
    assert!(exit.code == 137 && of == Some(TooMuch::Memory), "{exit}");
}

#[tokio::test]
async fn takes_all_memory_as_files() {
    let house = House::new(&[]).await;
    let fill =
        "head -c 600M /dev/zero >/dev/shm/fill || head -c 600M /dev/zero >/tmp/fill || echo full";
    let said = said(&house, Limits::default(), &["sh", "-c", fill]).await;
    assert_eq!(said, "full\n");
}

#[tokio::test]
async fn forks_without_end() {
    let house = House::new(&[]).await;
    let bomb = "for i in $(seq 200); do sleep 30 & done; echo all";
    let limits = Limits {
        memory_bytes: Limits::default().memory_bytes,
        ..small()
    };
    let said = said(&house, limits, &["sh", "-c", bomb]).await;
    assert_eq!(said, "", "it did not get to its end");
    let enough = self::said(&house, Limits::default(), &["sh", "-c", bomb]).await;
    assert_eq!(enough, "all\n", "control: with more it does");
}

#[tokio::test]
async fn opens_files_without_end() {
    let house = House::new(&[]).await;
    let open = "all = []\ntry:\n  while len(all) < 1000: all.append(open('/dev/null'))\n\
                except OSError as error: print(error.errno, len(all) < 77)\nelse: print('all')";
    let argv = ["python3", "-c", open];
    assert_eq!(said(&house, small(), &argv).await, "24 True\n");
    let enough = said(&house, Limits::default(), &argv).await;
    assert_eq!(enough, "all\n", "control: with more it does");
}

#[tokio::test]
async fn writes_a_file_without_end() {
    let house = House::new(&[]).await;
    let write = "head -c 8M /dev/zero >long; truncate -s 1T holes; stat -c %s long holes";
    let argv = ["sh", "-c", write];
    assert_eq!(said(&house, small(), &argv).await, "1048576\n0\n");
    let enough = said(
        &house,
        Limits::default(),
        &["sh", "-c", "head -c 8M /dev/zero >long; stat -c %s long"],
    )
    .await;
    assert_eq!(enough, "8388608\n", "control: with more it does");
}

#[tokio::test]
async fn fills_the_disk() {
    let house = House::new(&[]).await;
    let fill = "for i in $(seq 100); do head -c 1M /dev/zero >file-$i; done; sleep 600";
    let limits = Limits {
        disk_bytes: 50 << 20,
        ..Limits::default()
    };
    let (exit, of) = end(&house, limits, &["sh", "-c", fill]).await;
    assert!(exit.code == 137 && of == Some(TooMuch::Disk), "{exit}");
}
