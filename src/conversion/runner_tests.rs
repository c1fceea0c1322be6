use super::*;
use crate::fence::graph;
use crate::fence::tests::{app, state};
use crate::transaction::model::layout;

#[test]
fn what_is_said_meanwhile_fits_a_terminal() {
    let line = goes_on(
        "postgresql: 15 to 14",
        Duration::from_secs(86_399),
        Duration::from_secs(86_400),
    );
    assert!(line.len() < 100, "{line}");
    assert!(line.contains("86399 s of 86400"), "{line}");
}

#[test]
fn a_converter_is_told_what_it_is_to_do() {
    let conversion = Conversion {
        dataset: Part::Data(0),
        app: app("shop"),
        step: graph::Step {
            from: state("2"),
            to: state("1"),
            shipped_by: crate::fence::names::Version::Live,
            command: vec!["/usr/bin/down".to_owned()],
            lossless: true,
            cost: 1,
            early: true,
            seconds: 600,
        },
    };
    let layout = layout();
    let its = dataset(&layout, conversion.dataset).unwrap();
    assert_eq!(mount_of(its), Path::new("srv/data"));
    let environment = environment(&conversion, its);
    for line in [
        "BACKSTAY_APP=shop",
        "BACKSTAY_FROM=2",
        "BACKSTAY_TO=1",
        "BACKSTAY_DATA=/srv/data",
    ] {
        assert!(environment.iter().any(|it| it == line), "{line}");
    }
    assert!(dataset(&layout, Part::Data(5)).is_err());
}

struct Nobody;

impl Teller for Nobody {
    fn say(&mut self, _: &str) {}
    fn printed(&mut self, _: &str) {}
}

/// A room with this machine's root as the version and a directory as the clone, which is seen at /mnt.
struct Staged {
    place: tempfile::TempDir,
    room: Room,
}

/// `None` where name spaces are refused.
fn staged(script: &str) -> Option<Staged> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: it needs root");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let clone = place.path().join("clone");
    std::fs::create_dir(&clone).unwrap();
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&clone, anybody).unwrap();
    let room = Room {
        at: place.path().join("room"),
        top: Top::Mounted(PathBuf::from("/")),
        root: ".".to_owned(),
        data: (clone.display().to_string(), PathBuf::from("mnt")),
        config: None,
        paths_from: None,
        config_paths: Vec::new(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: vec![
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            format!("PLACE={}", place.path().display()),
        ],
    };
    Some(Staged { place, room })
}

impl Staged {
    fn run(&self, limit: Duration) -> Result<(), String> {
        watched(&self.room, "test: 1 to 2", limit, &mut Nobody)
    }

    fn made(&self, name: &str) -> String {
        let path = self.place.path().join("clone").join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Whether somebody goes on writing.
    fn is_written(&self) -> bool {
        let before = self.made("goes-on");
        std::thread::sleep(Duration::from_millis(500));
        self.made("goes-on") != before
    }
}

#[test]
fn a_converter_writes_to_the_clone_and_to_nothing_else() {
    let script = "echo converted > /mnt/made && ! touch /usr/written 2> /dev/null && test ! -e /dev/kmsg && \
                  test $$ -le 9 && test -w /tmp && test -z \"$(ls /tmp)\"";
    let Some(staged) = staged(script) else { return };
    staged.run(Duration::from_secs(60)).unwrap();
    assert_eq!(staged.made("made"), "converted\n");
    // Nothing is mounted outside, and nothing is left to be unmounted.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&staged.room.at.display().to_string()));
}

#[test]
fn a_converter_sees_nothing_outside_of_its_room_and_cannot_leave_it() {
    // Nor by way of the process that it is a child of.
    let script = "! test -e /proc/1/root$PLACE && \
                  for open in /proc/1/fd/*; do test ! -d $open || exit 9; done && \
                  ! mknod /tmp/disk b 8 0 2> /dev/null && ! chroot / true 2> /dev/null && \
                  ! mount -t tmpfs none /tmp 2> /dev/null";
    let Some(staged) = staged(script) else { return };
    staged.run(Duration::from_secs(60)).unwrap();
}

#[test]
fn a_converter_can_neither_set_the_kernel_nor_restart_the_machine_by_its_proc() {
    // Opened only: where that succeeds, nothing is written yet. Not every kernel has all of them.
    let script = "test -e /proc/sys/vm/swappiness && \
                  for file in sysrq-trigger sys/vm/swappiness sys/kernel/core_pattern; do \
                  test ! -e /proc/$file || ! (exec 3>> /proc/$file) 2> /dev/null || exit 9; done";
    let Some(staged) = staged(script) else { return };
    staged.run(Duration::from_secs(60)).unwrap();
}

#[test]
fn a_converter_that_is_not_root_any_more_has_its_devices() {
    let script = "setpriv --reuid 65534 --clear-groups sh -c 'echo x > /dev/null && cat /dev/null > /dev/zero'";
    let Some(staged) = staged(script) else { return };
    staged.run(Duration::from_secs(60)).unwrap();
}

#[test]
fn a_converter_that_fails_says_why() {
    let Some(staged) = staged("echo no room >&2; exit 3") else {
        return;
    };
    let why = staged.run(Duration::from_secs(60)).unwrap_err();
    assert_eq!(why, "exit status 3, its last line: no room");
}

#[test]
fn nothing_that_a_converter_started_outlives_it() {
    let goes_on = "while :; do echo x >> /mnt/goes-on; sleep 0.05; done";
    let leaves = format!("({goes_on}) & until test -s /mnt/goes-on; do sleep 0.05; done");
    let Some(staged) = staged(&leaves) else {
        return;
    };
    staged.run(Duration::from_secs(60)).unwrap();
    assert!(!staged.made("goes-on").is_empty() && !staged.is_written());
}

#[test]
fn a_converter_past_its_time_is_gone_whoever_it_has_become() {
    // The kernel takes back that it ends with its parent where it gives up being root.
    let script = "exec setpriv --reuid 65534 --clear-groups sh -c \
                  'while :; do echo x >> /mnt/goes-on; sleep 0.05; done'";
    let Some(staged) = staged(script) else { return };
    let why = staged.run(Duration::from_secs(2)).unwrap_err();
    assert!(why.contains("not done after its 2 seconds"), "{why}");
    assert!(!staged.made("goes-on").is_empty() && !staged.is_written());
}
