use super::*;
use crate::sys::probe::{btrfs, ext4, partition::Identity};

fn device(path: &str, content: Content) -> Device {
    let name = path.trim_start_matches("/dev/").to_owned();
    let partition = Identity {
        uuid: Some(format!("PART-{name}")),
        label: Some("os".into()),
    };
    Device {
        path: path.into(),
        name,
        number: (254, 0),
        content,
        partition,
    }
}

fn member(path: &str, fsid: u8, devid: u64, uuid: u8, of: u64) -> Device {
    let sb = btrfs::parse(&btrfs::tests::sample(fsid, devid, uuid, of)).unwrap();
    device(path, Content::Btrfs(Box::new(sb)))
}

const AA: &str = "AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

fn paths(devices: &[Device]) -> Vec<&str> {
    devices
        .iter()
        .map(|device| device.path.to_str().unwrap())
        .collect()
}

#[test]
fn one_disk_is_found_by_each_of_its_names_whatever_the_case_of_a_uuid() {
    let all = [
        device("/dev/vda", Content::Unknown),
        member("/dev/vda2", 0xaa, 1, 1, 1),
    ];
    for name in [
        Name::Uuid(AA),
        Name::Label("root"),
        Name::PartUuid("part-VDA2"),
        Name::Path("/dev/vda2"),
    ] {
        let found = select(name, &all).unwrap().unwrap();
        assert_eq!(
            (paths(&found.devices), found.missing),
            (vec!["/dev/vda2"], 0),
            "{name:?}"
        );
        assert!(!found.is_copied() && !found.has_log());
    }
    assert_eq!(select(Name::Label("ROOT"), &all), Ok(None));
}

#[test]
fn members_of_one_file_system_are_told_from_copies_of_a_disk() {
    let all = [
        member("/dev/vda", 0xaa, 1, 1, 2),
        member("/dev/vdb", 0xaa, 2, 2, 2),
        member("/dev/vdc", 0xaa, 1, 1, 2),
        member("/dev/vdd", 0xbb, 1, 3, 1),
    ];
    let whole = select(Name::Uuid(AA), &all[..2]).unwrap().unwrap();
    assert_eq!(
        (paths(&whole.devices), whole.copies.len()),
        (vec!["/dev/vda", "/dev/vdb"], 0)
    );
    let copied = select(Name::Uuid(AA), &all).unwrap().unwrap();
    assert_eq!(paths(&copied.devices), ["/dev/vda", "/dev/vdb"]);
    assert_eq!(paths(&copied.copies), ["/dev/vdc"]);
    // Named by its path, the copy is the one that was meant, and still there are two.
    let by_path = select(Name::Path("/dev/vdc"), &all).unwrap().unwrap();
    assert_eq!(paths(&by_path.devices), ["/dev/vdb", "/dev/vdc"]);
    assert!(by_path.is_copied());
}

#[test]
fn a_missing_member_is_counted() {
    let all = [member("/dev/vda", 0xaa, 1, 1, 3)];
    assert_eq!(select(Name::Uuid(AA), &all).unwrap().unwrap().missing, 2);
}

#[test]
fn two_copies_of_a_single_disk_are_a_copy_on_ext4_too() {
    let sb = ext4::Superblock {
        uuid: Uuid([0xaa; 16]),
        label: String::new(),
    };
    let all = ["/dev/vda", "/dev/vdb"].map(|path| device(path, Content::Ext(sb.clone())));
    assert!(select(Name::Uuid(AA), &all).unwrap().unwrap().is_copied());
}

#[test]
fn a_label_on_two_file_systems_is_a_question_and_not_a_choice() {
    let all = [
        member("/dev/vda", 0xaa, 1, 1, 1),
        member("/dev/vdb", 0xbb, 1, 2, 1),
    ];
    let error = select(Name::Label("root"), &all).unwrap_err();
    assert!(error.to_string().contains("/dev/vda, /dev/vdb"), "{error}");
    assert!(matches!(
        select(Name::PartLabel("os"), &all),
        Err(Error::Ambiguous { .. })
    ));
    assert!(matches!(
        select(Name::Other("nfs"), &all),
        Err(Error::Unknown(_))
    ));
}

#[test]
fn the_time_to_wait_is_what_users_know() {
    let seconds = |line: &str| limit(&Boot::read(line.as_bytes())).map(|limit| limit.as_secs());
    assert_eq!(seconds("quiet"), Some(30));
    assert_eq!(seconds("rootdelay=5"), Some(30));
    assert_eq!(seconds("rootdelay=90"), Some(90));
    assert_eq!(seconds("rootwait"), None);
    assert_eq!(seconds("rootwait=7"), Some(7));
}

#[test]
fn a_device_that_never_comes_is_an_error_that_lists_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        class: dir.path().to_owned(),
        dev: dir.path().to_owned(),
        drives: false,
    };
    let mut modules = Modules::open(dir.path(), Vec::new(), super::super::modules::Kernel);
    let name = Name::Uuid(AA);
    let error = wait(name, Some(Duration::ZERO), &places, &mut modules).unwrap_err();
    assert!(
        error.to_string().contains("no block devices at all"),
        "{error}"
    );
}

#[test]
fn what_is_there_is_listed_with_each_name_that_a_command_line_could_have() {
    let sb = ext4::Superblock {
        uuid: Uuid([0xaa; 16]),
        label: String::new(),
    };
    for (content, names) in [
        (Content::Iso("RECOVERY".into()), " (LABEL=RECOVERY)"),
        (
            Content::Ext(sb),
            " (UUID=aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa)",
        ),
        (Content::Unknown, ""),
    ] {
        assert_eq!(
            with_names(&device("/dev/vda1", content)),
            format!("/dev/vda1{names}")
        );
    }
    let both = with_names(&member("/dev/vda2", 0xaa, 1, 1, 1));
    assert!(both.ends_with(", LABEL=root)"), "{both}");
}
