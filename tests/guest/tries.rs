//! What the hostile server tries, one test a try: by a running server (`running`), and by a package's install script
//! (`installing`). Each fails if the try succeeds, and shows that it works where nothing stops it. SECURITY.md lists them.

use serde_json::{Value, json};

use super::scene::{Control, Facts, Scene};

const KEY: &str = "canary-of-the-key";

macro_rules! tries {
    ($(fn $name:ident($facts:ident) $control:ident $order:block)*) => {
        /// All of them, by name.
        pub fn all(facts: &Facts) -> Vec<(&'static str, Value)> {
            vec![$((stringify!($name), orders::$name(facts))),*]
        }

        mod orders {
            use super::*;
            $(pub fn $name($facts: &Facts) -> Value $order)*
        }

        mod running {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let scene = Scene::shared().await;
                scene.tried(orders::$name(&scene.facts), Control::$control).await;
            })*
        }

        mod installing {
            $(#[tokio::test]
            async fn $name() {
                crate::installing::tried(stringify!($name)).await;
            })*
        }
    };
}

tries! {
    fn reads_the_master_key(facts) Outside {
        json!({"what": "read", "paths": [facts.data.join("master.key")], "holds": KEY})
    }

    fn reads_the_master_key_by_a_way_around(facts) Outside {
        let key = facts.data.join("master.key").display().to_string();
        let around = [
            format!("/srv/../../..{key}"),
            format!("/proc/1/root{key}"),
            format!("/proc/self/root{key}"),
            format!("/proc/self/cwd/../../..{key}"),
            format!("/oldroot{key}"),
            format!("/newroot{key}"),
            "/proc/1/cwd/master.key".into(),
        ];
        json!({"what": "read", "paths": around, "holds": KEY})
    }

    fn reads_the_master_key_by_a_link_of_its_own(facts) Outside {
        json!({"what": "read_by_link", "path": facts.data.join("master.key"), "holds": KEY, "own": "@OWN@"})
    }

    fn reads_the_master_key_from_below(facts) Outside {
        json!({"what": "read_from_below", "path": facts.data.join("master.key"), "holds": KEY, "own": "@OWN@"})
    }

    fn reads_the_master_key_by_io_uring(facts) Outside {
        json!({"what": "by_ring", "path": facts.data.join("master.key"), "holds": KEY})
    }

    // It needs a handle of the directory that stands above: whether a file system gives handles differs.
    fn opens_files_by_handle(_facts) Nowhere {
        json!({"what": "by_handle", "path": "/", "own": "@OWN@"})
    }

    fn links_the_master_key_into_its_own_directory(facts) Outside {
        json!({"what": "hard_link", "path": facts.data.join("master.key"), "own": "@OWN@"})
    }

    fn lists_the_data_directory(facts) Outside {
        json!({"what": "listing", "paths": [facts.data, facts.place, facts.place.join("guests")]})
    }

    fn writes_into_the_data_directory(facts) Outside {
        json!({"what": "make", "paths": [facts.data.join("new"), facts.place.join("new")]})
    }

    fn reads_the_databases_files(facts) Outside {
        json!({"what": "read", "paths": [facts.data.join("postgres/PG_VERSION")], "holds": "canary-of-the-rows"})
    }

    fn connects_to_the_databases_socket(facts) Outside {
        json!({"what": "connect_unix", "path": facts.data.join("database.sock")})
    }

    fn reads_sealports_environment(facts) Outside {
        json!({"what": "read", "paths": [format!("/proc/{}/environ", facts.sealport)], "holds": KEY})
    }

    fn reads_sealports_memory(facts) Outside {
        json!({"what": "memory", "pid": facts.sealport, "address": facts.address, "holds": KEY})
    }

    fn copies_sealports_memory(facts) Outside {
        json!({"what": "copy_memory", "pid": facts.sealport, "address": facts.address, "holds": KEY})
    }

    fn opens_what_sealport_has_open(facts) Outside {
        let path = format!("/proc/{}/fd/{}", facts.sealport, facts.descriptor);
        json!({"what": "read", "paths": [path], "holds": KEY})
    }

    fn takes_a_descriptor_of_sealport(facts) Outside {
        json!({"what": "take_descriptor", "pid": facts.sealport, "number": facts.descriptor, "holds": KEY})
    }

    fn reads_what_it_inherited(_facts) Outside {
        json!({"what": "inherited", "holds": KEY})
    }

    fn reads_another_instances_environment(facts) Outside {
        let paths = [facts.neighbour, facts.twin].map(|pid| format!("/proc/{pid}/environ"));
        json!({"what": "read", "paths": paths, "holds": "canary-of-another"})
    }

    fn reads_another_instances_files(facts) Outside {
        let around = ["/srv/../neighbour/private".into(), format!("/proc/{}/cwd/private", facts.neighbour)];
        let paths: Vec<String> = around.into_iter().chain([facts.neighbours_home.join("private").display().to_string()]).collect();
        json!({"what": "read", "paths": paths, "holds": "hostile"})
    }

    fn reads_another_callers_files(facts) Outside {
        let around = ["/data/../twin/private".into(), format!("/proc/{}/root/data/private", facts.twin)];
        let paths: Vec<String> = around.into_iter().chain([facts.twins_data.join("private").display().to_string()]).collect();
        json!({"what": "read", "paths": paths, "holds": "hostile"})
    }

    fn reads_another_instances_temporary_files(facts) Root {
        let other = [facts.neighbour, facts.twin].map(|pid| format!("/proc/{pid}/root/tmp/private"));
        let paths: Vec<String> = other.into_iter().chain(["/tmp/private".into()]).collect();
        json!({"what": "read", "paths": paths, "holds": "hostile"})
    }

    // What an instance prints is a pipe until Sealport has masked it, and a row of the database then.
    fn reads_another_instances_log(facts) Root {
        let paths = [facts.neighbour, facts.twin].map(|pid| format!("/proc/{pid}/fd/1"));
        json!({"what": "opens", "paths": paths})
    }

    fn connects_to_another_instance(facts) Outside {
        json!({"what": "connect_unix", "path": facts.neighbours_socket})
    }

    fn signals_sealport(facts) Outside {
        json!({"what": "send", "pid": facts.sealport})
    }

    fn signals_another_instance(facts) Outside {
        json!({"what": "send", "pid": facts.twin})
    }

    fn traces_sealport(facts) Outside {
        json!({"what": "trace", "pid": facts.sealport})
    }

    fn traces_another_instance(facts) Root {
        json!({"what": "trace", "pid": facts.twin})
    }

    fn slows_sealport_down(facts) Outside {
        json!({"what": "slow_down", "pid": facts.sealport})
    }

    fn changes_sealports_limits(facts) Outside {
        json!({"what": "narrow", "pid": facts.sealport})
    }

    fn takes_its_turn_before_others(_facts) Root {
        json!({"what": "hurry"})
    }

    fn reads_memory_that_the_host_shares(facts) Outside {
        json!({"what": "segment", "key": facts.segment, "holds": KEY})
    }

    fn opens_a_queue_of_the_host(facts) Outside {
        json!({"what": "queue", "name": format!("/{}", facts.marker)})
    }

    fn reads_the_hosts_temporary_files(facts) Outside {
        let paths = ["/tmp", "/dev/shm"].map(|folder| format!("{folder}/{}", facts.marker));
        json!({"what": "read", "paths": paths, "holds": KEY})
    }

    fn connects_to_an_abstract_socket(facts) Outside {
        json!({"what": "connect_unix", "path": format!("@{}", facts.marker)})
    }

    fn reaches_the_dashboards_port(facts) Outside {
        json!({"what": "connect", "hosts": facts.hosts, "port": facts.dashboard})
    }

    fn reaches_the_databases_port(facts) Outside {
        json!({"what": "connect", "hosts": facts.hosts, "port": facts.database})
    }

    fn reaches_the_host_by_datagrams(facts) Outside {
        json!({"what": "datagram", "hosts": facts.hosts, "port": facts.datagrams})
    }

    // No such server stands here.
    fn reaches_the_clouds_metadata(_facts) Nowhere {
        let hosts = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "::ffff:169.254.169.254", "fd00:ec2::254"];
        json!({"what": "connect", "hosts": hosts, "port": 80})
    }

    fn speaks_below_ip(_facts) Root {
        json!({"what": "below_ip"})
    }

    fn speaks_to_the_hypervisor(_facts) Outside {
        json!({"what": "hypervisor"})
    }

    fn leaves_a_key_in_the_kernels_keyring(facts) Outside {
        json!({"what": "keyring", "name": facts.marker})
    }

    fn becomes_root(_facts) Root {
        json!({"what": "become_root"})
    }

    fn mounts(_facts) Apart {
        json!({"what": "mount", "own": "@OWN@"})
    }

    fn takes_a_mount_away(_facts) Apart {
        json!({"what": "unhide"})
    }

    fn makes_namespaces_of_its_own(_facts) Root {
        json!({"what": "namespaces"})
    }

    fn enters_sealports_namespaces(facts) Root {
        json!({"what": "enter", "pid": facts.sealport})
    }

    fn makes_a_device(_facts) Root {
        json!({"what": "device", "own": "@OWN@"})
    }

    fn asks_the_kernel_for_more(_facts) Root {
        json!({"what": "kernel"})
    }

    fn changes_the_kernels_settings(_facts) Root {
        let paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs"];
        json!({"what": "opens", "paths": paths, "write": true})
    }

    // A test has no terminal of its own to lose.
    fn types_into_sealports_terminal(_facts) Nowhere {
        json!({"what": "terminal"})
    }
}

/// What it sends to everybody reaches its own processes alone.
#[tokio::test]
async fn signals_everybody() {
    let scene = Scene::shared().await;
    scene.outcome(&json!({"what": "send_to_all"})).await;
    assert!(!scene.struck.exists(), "the signal came to Sealport");
    let sealport = i32::try_from(scene.facts.sealport).unwrap();
    let sealport = rustix::process::Pid::from_raw(sealport).unwrap();
    rustix::process::kill_process(sealport, rustix::process::Signal::URG).unwrap();
    super::house::until("control: one that comes shows", || scene.struck.exists()).await;
}
