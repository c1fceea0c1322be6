//! Whole questions, at random, against the rules as they are written down.

use super::oracle::{self, STATES, VERSIONS, World, lossy, world};
use super::{app, dataset, question, state};
use crate::fence::declaration::Declaration;
use crate::fence::graph::Step;
use crate::fence::infer::infer;
use crate::fence::names::{AppName, Version};
use crate::fence::question::{
    BY_ITSELF, By, Consent, Datasets, Fate, Kept, Label, Labels, Offer, Versions,
};
use crate::fence::verdict::Answer;
use crate::record::layout::Name;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const APPS: [&str; 3] = ["one", "two", "three"];
const DATASETS: [&str; 2] = ["config", "data"];

fn label() -> impl Strategy<Value = Label> {
    let known = select(STATES.to_vec()).prop_map(|it| Label::Known(state(it)));
    prop_oneof![
        6 => known,
        1 => Just(Label::Unknown),
        1 => Just(Label::Converting { from: state("a"), to: state("b") }),
        1 => Just(Label::Damaged),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    vec(prop::option::weighted(0.9, label()), APPS.len()).prop_map(|all| {
        let all = all.into_iter().zip(APPS);
        all.filter_map(|(label, name)| Some((app(name), label?)))
            .collect()
    })
}

fn kept() -> impl Strategy<Value = Kept> {
    (select(VERSIONS.to_vec()), any::<Option<u64>>(), labels())
        .prop_map(|(of, since, labels)| Kept { of, since, labels })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        5 => (labels(), prop::option::of(kept()))
            .prop_map(|(labels, kept)| Fate::Stays { labels, kept }),
        1 => kept().prop_map(Fate::Exchanged),
        1 => Just(Fate::Fresh),
    ]
}

/// Versions of several applications, some of which some do not have, in one of two datasets.
fn versions() -> impl Strategy<Value = Versions> {
    let there = (0..10_u8, prop::bool::weighted(0.2));
    let one = (world(), any::<bool>(), vec(there, VERSIONS.len()));
    vec(one, 1..=APPS.len()).prop_map(|apps| {
        let mut versions = Versions::new();
        for ((World { versions: all }, usual, there), name) in apps.into_iter().zip(APPS) {
            for ((version, mut declared), (luck, elsewhere)) in all.into_iter().zip(there) {
                let place = DATASETS[usize::from(usual ^ elsewhere)];
                declared.dataset = dataset(place);
                let declared = match luck {
                    0 => continue,
                    1 => Err("line 1: no".to_owned()),
                    _ => Ok(declared),
                };
                let offer: &mut Offer = versions.entry(version).or_default();
                offer.apps.insert(app(name), declared);
            }
        }
        versions
    })
}

fn data() -> impl Strategy<Value = Datasets> {
    let one = prop::option::weighted(0.9, fate());
    vec(one, DATASETS.len()).prop_map(|all| {
        let all = all.into_iter().zip(DATASETS);
        all.filter_map(|(fate, name)| Some((dataset(name), fate?)))
            .collect()
    })
}

/// The rules, word by word.
struct Rules<'a> {
    versions: &'a Versions,
    target: Version,
    datasets: &'a Datasets,
    by: By,
}

impl Rules<'_> {
    fn declared(&self) -> Vec<(&AppName, Result<&Declaration, &String>)> {
        let offer = self.versions.get(&self.target);
        let all = offer.into_iter().flat_map(|offer| &offer.apps);
        all.map(|(app, it)| (app, it.as_ref())).collect()
    }

    fn lives(&self, it: &Declaration, label: &Label, of: Option<Version>) -> bool {
        match label {
            Label::Known(state) => it.state == *state || it.reads.contains(state),
            Label::Unknown => it.reads_unknown || of == Some(self.target),
            Label::Converting { .. } | Label::Damaged => false,
        }
    }

    fn present(&self, app: &AppName, name: &Name) -> Option<(Label, Option<Version>)> {
        let of = |labels: &Labels| labels.get(app).cloned().unwrap_or(Label::Unknown);
        match self.datasets.get(name)? {
            Fate::Stays { labels, .. } => Some((of(labels), None)),
            Fate::Exchanged(kept) => Some((of(&kept.labels), Some(kept.of))),
            Fate::Fresh => None,
        }
    }

    fn as_it_is(&self, app: &AppName, it: &Declaration) -> bool {
        match self.present(app, &it.dataset) {
            Some((label, of)) => self.lives(it, &label, of),
            None => self.datasets.contains_key(&it.dataset),
        }
    }

    /// All ways that may be taken.
    fn ways(&self, app: &AppName, it: &Declaration) -> Vec<Vec<Step>> {
        let Some((Label::Known(state), _)) = self.present(app, &it.dataset) else {
            return Vec::new();
        };
        let all = self.versions.iter();
        let versions = all.filter_map(|(version, offer)| {
            let ships = offer.apps.get(app)?.as_ref().ok()?;
            (ships.dataset == it.dataset).then(|| (*version, ships.clone()))
        });
        let mut steps = oracle::steps(&World {
            versions: versions.collect(),
        });
        steps.retain(|step| self.by == By::Running || step.early);
        oracle::paths(&steps, &state, it)
    }

    fn can_go_back(&self, name: &Name) -> bool {
        let Some(Fate::Stays {
            kept: Some(kept), ..
        }) = self.datasets.get(name)
        else {
            return false;
        };
        self.declared().into_iter().all(|(app, it)| match it {
            Ok(it) if it.dataset == *name => {
                let label = kept.labels.get(app).unwrap_or(&Label::Unknown);
                self.lives(it, label, Some(kept.of))
            }
            _ => true,
        })
    }

    /// Whether the best paths, where they lose nothing, end in time.
    fn in_time(&self) -> bool {
        let needing = self.declared().into_iter().filter_map(|(app, it)| {
            let it = it.ok().filter(|it| !self.as_it_is(app, it))?;
            oracle::best(&self.ways(app, it), it).filter(|way| lossy(way) == 0)
        });
        let seconds: u64 = needing.flatten().map(|step| u64::from(step.seconds)).sum();
        seconds <= BY_ITSELF
    }

    fn goes(&self, consent: Option<Consent>) -> bool {
        if consent.is_none() && !self.in_time() {
            return false;
        }
        self.declared().into_iter().all(|(app, it)| {
            let Ok(it) = it else { return false };
            self.as_it_is(app, it)
                || match consent {
                    Some(Consent::Refuse) => false,
                    Some(Consent::Convert) => !self.ways(app, it).is_empty(),
                    Some(Consent::Restore) => self.can_go_back(&it.dataset),
                    None => self.ways(app, it).iter().any(|way| lossy(way) == 0),
                }
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_verdict_is_the_one_of_the_rules(
        versions in versions(),
        datasets in data(),
        target in select(VERSIONS.to_vec()),
        by in select(vec![By::Running, By::Console, By::Itself]),
        consent in select(Consent::ALL.to_vec()),
    ) {
        let rules = Rules { versions: &versions, target, datasets: &datasets, by };
        let verdict = infer(&question(&versions, target, &datasets, by, consent));
        let possible: Vec<Consent> =
            Consent::ALL.into_iter().filter(|it| rules.goes(Some(*it))).collect();
        prop_assert_eq!(&verdict.possible, &possible);
        let given = (by != By::Itself).then_some(consent);
        prop_assert_eq!(verdict.goes, rules.goes(given));
        // Every application that is declared has one answer, and so has everything that has a label.
        for (app, it) in rules.declared() {
            let answers = verdict.apps.iter().filter(|one| one.app == *app);
            let here = answers.filter(|one| {
                one.dataset.as_ref() == it.ok().map(|it| &it.dataset)
            });
            prop_assert_eq!(here.count(), 1);
        }
        for one in &verdict.apps {
            let declared = rules.declared().into_iter().find(|(app, _)| **app == one.app);
            let declared = declared.and_then(|(_, it)| it.ok());
            let declared = declared.filter(|it| Some(&it.dataset) == one.dataset.as_ref());
            match &one.answer {
                Answer::Nothing => prop_assert!(rules.as_it_is(&one.app, declared.unwrap())),
                Answer::Convert { path, lossy } => {
                    let declared = declared.unwrap();
                    prop_assert!(!rules.as_it_is(&one.app, declared));
                    let ways = rules.ways(&one.app, declared);
                    prop_assert_eq!(Some(path.steps.clone()), oracle::best(&ways, declared));
                    prop_assert_eq!(*lossy, path.lossy > 0);
                    prop_assert!(given.is_none_or(|it| it == Consent::Convert));
                    prop_assert!(given.is_some() || !*lossy);
                }
                Answer::Restore { .. } => {
                    prop_assert_eq!(given, Some(Consent::Restore));
                    prop_assert!(rules.can_go_back(one.dataset.as_ref().unwrap()));
                }
                Answer::Refuse(_) => prop_assert!(!verdict.goes),
                Answer::LeftAlone(_) => prop_assert!(declared.is_none()),
            }
            // What goes ends in a state that the target lives with.
            if let (true, Some(declared), Some(after)) = (verdict.goes, declared, &one.after) {
                prop_assert!(declared.lives_with(after));
            }
        }
        // Where it does not go, nothing is run and nothing returns.
        if !verdict.goes {
            prop_assert!(verdict.conversions().is_empty() && verdict.returns().is_empty());
            prop_assert!(!verdict.loses());
        }
        // It can be said.
        for line in crate::fence::words::lines(&verdict) {
            prop_assert!(line.chars().count() <= 78, "{line}");
        }
        prop_assert!(serde_json::to_string(&verdict).is_ok());
    }

    #[test]
    fn nothing_depends_on_the_order_within_a_declaration(
        versions in versions(),
        datasets in data(),
        target in select(VERSIONS.to_vec()),
        consent in select(Consent::ALL.to_vec()),
    ) {
        let mut turned = versions.clone();
        let all = turned.values_mut().flat_map(|offer| offer.apps.values_mut());
        for declared in all.filter_map(|it| it.as_mut().ok()) {
            declared.converters.reverse();
            declared.converters.iter_mut().for_each(|it| it.from.reverse());
        }
        let ask = |versions: &Versions| {
            infer(&question(versions, target, &datasets, By::Running, consent))
        };
        prop_assert_eq!(ask(&versions), ask(&turned));
    }
}
