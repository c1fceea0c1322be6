//! Sets that were sealed before the machine had a config dataset: decision 0020.

use super::catalogue;
use super::execute::execute;
use super::explain::explain_for;
use super::model::acts::Act;
use super::model::explore::explore;
use super::model::form::Form;
use super::model::machine;
use super::plan::plan;
use super::records::Records;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::{Health, resolve};
use crate::record::block::{self, Block, decode};
use crate::record::layout::Part;
use crate::record::manifest::Manifest;
use crate::record::state::Verb;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::{File, Place, Set};

const CONFIG: [Part; 2] = [Part::Config, Part::Defaults];

/// Takes parts out of a set, as if they had not been there when it was sealed.
fn without(store: &mut Memory, set: Set, parts: &[Part]) {
    let bytes = store.read(File::Manifest(set)).unwrap().unwrap();
    let Block::Valid { mut value, .. } = decode::<Manifest>(&bytes) else {
        panic!("no manifest");
    };
    value.members.retain(|member| !parts.contains(&member.part));
    let block = block::encode(1, &value).unwrap().to_vec();
    store.edit(|world, _| {
        world.files.insert(File::Manifest(set), block);
        for part in parts {
            world.datasets.remove(&set.place(*part));
        }
    });
}

/// The machine, whose config dataset came after snapshots 1 and 2 and the factory.
fn late() -> (Memory, Records) {
    let (mut store, records) = machine();
    for set in [Set::Factory, Set::Snapshot(1), Set::Snapshot(2)] {
        without(&mut store, set, &CONFIG);
    }
    (store, records)
}

#[test]
fn a_set_from_before_the_config_dataset_is_whole_and_one_that_lost_a_part_is_not() {
    let (mut store, _) = late();
    let health = |store: &Memory| catalogue::health(store, Set::Snapshot(2)).unwrap();
    assert_eq!(health(&store), Health::WithoutConfig);
    store.edit(|world, _| world.datasets.remove(&Place::Snapshot(2, Part::System)));
    assert_eq!(health(&store), Health::Missing(Part::System));
    for (part, other) in [(CONFIG[0], CONFIG[1]), (CONFIG[1], CONFIG[0])] {
        let (mut store, _) = machine();
        without(&mut store, Set::Snapshot(2), &[part]);
        assert_eq!(health(&store), Health::Missing(part), "{other:?} is there");
    }
    let (mut store, _) = machine();
    without(&mut store, Set::Snapshot(2), &[Part::System]);
    assert_eq!(health(&store), Health::Missing(Part::System));
}

#[test]
fn each_verb_says_what_becomes_of_the_configuration_and_does_it() {
    let stays = "configuration: stays as it is";
    let fresh = "configuration: becomes a clone of this version's defaults";
    for (intent, says, content) in [
        (Intent::Rollback { to: 2 }, stays, "live"),
        (
            Intent::Select { id: 1 },
            "configuration: becomes a clone of the live configuration",
            "live",
        ),
        (
            Intent::ResetSystem { keep_config: false },
            fresh,
            "defaults",
        ),
        (Intent::ResetSystem { keep_config: true }, stays, "live"),
        (Intent::ResetEverything, fresh, "defaults"),
    ] {
        let (store, records) = late();
        let source = catalogue::manifest(&store, intent.source().unwrap()).unwrap();
        let plan = plan(
            &intent,
            &records.state.value,
            store.layout(),
            source.as_ref(),
            1,
        );
        let text = explain_for(&store, &plan).unwrap().to_string();
        assert!(text.contains(says), "{intent:?}: {text}");
        let (after, report) = explore(&store, Act::Present(intent.verb().unwrap()));
        report.expect_sound(&format!("{intent:?}"));
        assert!(
            report.disks > 50,
            "{intent:?} was cut {} times",
            report.disks
        );
        let version = |part: Part| {
            after
                .content(Place::Live(part), "version")
                .unwrap()
                .unwrap()
        };
        assert_eq!(version(Part::Config), content.as_bytes(), "{intent:?}");
        assert_eq!(version(Part::Defaults), b"defaults", "{intent:?}");
        for part in after.layout().all() {
            let live = after.dataset(Place::Live(part)).unwrap().unwrap();
            assert!(!live.read_only, "{intent:?}: {part:?}");
        }
        // The way back brings everything back.
        let back = match intent {
            Intent::Select { .. } => Act::Start,
            _ => Act::Present(Verb::Rollback(Some(3))),
        };
        let (back, report) = explore(&after, back);
        report.expect_sound(&format!("back from {intent:?}"));
        let config = |store: &Memory| Form::of(store).live().remove(&Part::Config);
        assert_eq!(config(&back), config(&store));
        // Not the nested subvolumes of a reset of everything: decision 0016.
        let system = back.content(Place::Live(Part::System), "etc/version");
        assert_eq!(system.unwrap().unwrap(), b"live", "{intent:?}");
    }
}

#[test]
fn what_such_a_set_lacks_must_be_live() {
    let (mut store, mut records) = late();
    store.edit(|world, _| world.datasets.remove(&Place::Live(Part::Config)));
    let state = records.state.value.clone();
    for verb in [Verb::Rollback(None), Verb::Select(1), Verb::ResetEverything] {
        let set = resolve::intent(verb, &state).unwrap().source();
        let facts = catalogue::facts(&store, set, false).unwrap();
        let refused = resolve::allowed(verb, &state, &facts);
        assert_eq!(refused, Err(Refusal::LiveMissing(Part::Config)), "{verb}");
    }
    // 'reset config' brings one back, as its refusal says.
    let intent = Intent::ResetConfig { data: false };
    let plan = plan(&intent, &state, store.layout(), None, 1);
    execute(&mut store, &mut records, &plan, 1, &mut |_| {}).unwrap();
}
