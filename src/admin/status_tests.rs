use super::*;
use crate::admin::request::{no_spare, submit};
use crate::record::block::BLOCK;
use crate::record::state::Verb;
use crate::transaction::model::machine;

fn shown<S: Store>(store: &S) -> String {
    status(store, Around::default()).unwrap().to_string()
}

#[test]
fn what_waits_is_said_with_the_way_to_withdraw_it() {
    let (mut store, mut records) = machine();
    let quiet = shown(&store);
    assert!(
        !quiet.contains("next boot") && !quiet.contains("armed"),
        "{quiet}"
    );
    submit(
        &mut store,
        &mut records,
        Verb::Rollback(None),
        Default::default(),
        [1; 16],
        0,
        &no_spare,
    )
    .unwrap();
    let text = shown(&store);
    assert!(text.contains("roll back to the version before"), "{text}");
    assert!(text.contains("backstay cancel"), "{text}");
    store.remove(File::Armed).unwrap();
    assert!(shown(&store).contains("NO: GRUB does not start the agent"));
}

#[test]
fn what_a_request_agrees_to_is_said() {
    for (consent, says) in [
        (Consent::Refuse, "roll forward, asked for"),
        (
            Consent::Convert,
            "roll forward with fence=convert, asked for",
        ),
        (
            Consent::Restore,
            "roll forward with fence=restore, asked for",
        ),
    ] {
        let (mut store, mut records) = machine();
        let (verb, ticket) = (Verb::Forward, [1; 16]);
        let asked = submit(
            &mut store,
            &mut records,
            verb,
            consent,
            ticket,
            0,
            &no_spare,
        );
        asked.unwrap();
        let status = status(&store, Around::default()).unwrap();
        assert!(status.to_string().contains(says), "{status}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["request"]["consent"], consent.word());
    }
}

#[test]
fn snapshots_that_keep_data_are_named() {
    use crate::admin::snapshot::snapshot_with_data;
    let (mut store, mut records) = machine();
    assert!(!shown(&store).contains("kept data"));
    for _ in 0..2 {
        snapshot_with_data(&mut store, &mut records, "x", 5, &mut |_| {}).unwrap();
    }
    let text = shown(&store);
    assert!(
        text.contains("kept data        with snapshots 3, 4;"),
        "{text}"
    );
}

#[test]
fn each_dataset_that_is_missing_is_named_with_a_remedy_that_works() {
    let (store, records) = machine();
    assert!(!shown(&store).contains("MISSING"));
    for (part, name, verb) in [
        (
            Part::Config,
            "@config",
            Some(Verb::ResetConfig { data: false }),
        ),
        (
            Part::Data(0),
            "@data",
            Some(Verb::ResetConfig { data: true }),
        ),
        (Part::Defaults, "@backstay/defaults", None),
    ] {
        let mut store = store.clone();
        store.edit(|world, _| world.datasets.remove(&Place::Live(part)));
        let text = shown(&store);
        let lines: Vec<_> = text
            .lines()
            .filter(|it| it.starts_with("MISSING"))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains(name), "{text}");
        assert!(lines[0].contains("backstay "), "{text}");
        if let Some(verb) = verb {
            crate::admin::request::preview(&store, &records, verb, Default::default(), 0).unwrap();
        }
    }
}

#[test]
fn what_was_found_around_the_records_is_said() {
    let (store, _) = machine();
    let around = Around {
        copied_disk: true,
        grub: vec!["grub.cfg is missing: run 'backstay init'".to_owned()],
        ..Around::default()
    };
    let text = status(&store, around).unwrap().to_string();
    for line in ["GRUB             grub.cfg is missing", "detach the copy"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn every_field_that_json_has_is_in_the_manual() {
    let page = include_str!("../../docs/man/backstay.8").replace('\\', "");
    let (mut store, mut records) = machine();
    submit(
        &mut store,
        &mut records,
        Verb::Rollback(None),
        Default::default(),
        [1; 16],
        0,
        &no_spare,
    )
    .unwrap();
    let state = &records.state.value;
    let listing = crate::admin::list::listing(&store, Some(state)).unwrap();
    let tarball = Tarball {
        name: "factory.tar".to_owned(),
        size: 1,
        signature: "present",
    };
    let held = crate::conversion::held::Held {
        services: vec![crate::conversion::held::Unit {
            name: String::new(),
            ran: true,
        }],
        mounts: Vec::new(),
    };
    let around = Around {
        tarball: Some(tarball),
        held: Some(held),
        ..Around::default()
    };
    let kept = crate::admin::tarball::Kept {
        tarball: String::new(),
        warnings: Vec::new(),
    };
    for value in [
        serde_json::to_value(status(&store, around).unwrap()).unwrap(),
        serde_json::to_value(kept).unwrap(),
        serde_json::to_value(listing).unwrap(),
        serde_json::to_value(crate::admin::good::Marked::default()).unwrap(),
    ] {
        documented(&value, &page);
    }
}

fn documented(value: &serde_json::Value, page: &str) {
    let children: Vec<_> = match value {
        serde_json::Value::Object(fields) => {
            for name in fields.keys() {
                let words = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                assert!(page.split(words).any(|word| word == name), "{name}");
            }
            fields.values().collect()
        }
        serde_json::Value::Array(values) => values.iter().collect(),
        _ => Vec::new(),
    };
    children
        .into_iter()
        .for_each(|child| documented(child, page));
}

#[test]
fn what_was_converted_and_what_is_held_is_said_with_what_ends_it() {
    use crate::conversion::held::{Held, Unit};
    let mut store = crate::transaction::model::prepared_machine();
    let held = Held {
        services: vec![Unit {
            name: "shop.service".to_owned(),
            ran: true,
        }],
        mounts: vec!["/srv/data".to_owned()],
    };
    let with_held = |store: &crate::store::memory::Memory| {
        let around = Around {
            held: Some(held.clone()),
            ..Around::default()
        };
        status(store, around).unwrap().to_string()
    };
    let text = with_held(&store);
    for says in [
        "converted        a clone of data\n",
        "held             stopped: shop.service; read-only: /srv/data; until the reboot",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    store
        .set_label(Place::Live(Part::Data(0)), "state.other", Some(b"1"))
        .unwrap();
    assert!(with_held(&store).contains("WRITTEN TO SINCE"));
    let (other, _) = machine();
    let text = with_held(&other);
    assert!(text.contains("'backstay cancel' lets go"), "{text}");
    assert!(!shown(&other).contains("held"));
}

#[test]
fn a_damaged_state_is_shown_with_its_remedy() {
    let (mut store, _) = machine();
    for slot in 0..2 {
        store.write_slot(File::State, slot, &[1; BLOCK]).unwrap();
    }
    let text = shown(&store);
    assert!(text.contains("init --repair"), "{text}");
}
