//! From the question to the answer, without I/O and without a clock.
//!
//! A dataset goes back as a whole: where one application in it has to, all in it do, also one that would have read the
//! present data, and one that the target does not have. So data is only returned to if the target lives with all of
//! it. Data that is kept of the target itself was its own when it last ran, and needs no label.

use super::declaration::Declaration;
use super::graph::{Graph, Path, Through};
use super::names::{AppName, AppState, Version};
use super::question::{BY_ITSELF, By, Consent, Fate, Fault, Kept, Label, Labels, Offer, Question};
use super::verdict::{Answer, AppVerdict, Cause, Lot, Refusal, Restore, Verdict};
use crate::record::layout::Name;
use std::collections::{BTreeMap, BTreeSet};

/// An application in a dataset, before anybody agreed to anything.
struct Case<'a> {
    app: &'a AppName,
    dataset: Option<&'a Name>,
    present: Label,
    fresh: bool,
    /// The target's.
    declared: Option<&'a Declaration>,
    /// Why it does not live with that; `None` too where it has nothing to do with it.
    cause: Option<Cause>,
    path: Option<Path>,
    only_running: bool,
}

/// A dataset as a whole.
#[derive(Default)]
struct Whole<'a> {
    /// Some application of the target does not live with it as it is.
    needs: bool,
    /// What may take its place.
    back: Option<&'a Kept>,
    /// There is kept data that may not.
    kept_unfit: bool,
}

/// What lets an application go that does not live with the data as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Somebody agrees to this.
    Agreed(Consent),
    /// Nobody can: paths that lose nothing. What they may take together, in seconds.
    Nobody(u64),
}

/// Says whether the target can be gone to, and how.
pub fn infer(question: &Question<'_>) -> Verdict {
    let nothing = Offer::default();
    let target = question.versions.get(&question.target).unwrap_or(&nothing);
    let cases = cases(question, target);
    let wholes = wholes(question, &cases);
    let goes = |rule| target.faults.is_empty() && cases.iter().all(|it| passes(it, &wholes, rule));
    let rule = match question.by {
        By::Itself => Rule::Nobody(seconds(&cases)),
        By::Running | By::Console => Rule::Agreed(question.consent),
    };
    let answers = |it| answer(it, &wholes, rule, question);
    let apps: Vec<AppVerdict> = cases.iter().map(answers).collect();
    Verdict {
        target: question.target,
        by: question.by,
        consent: question.consent,
        goes: goes(rule),
        possible: Consent::ALL
            .into_iter()
            .filter(|consent| goes(Rule::Agreed(*consent)))
            .collect(),
        services: match question.by {
            By::Running if goes(rule) => services(question, &apps),
            _ => Vec::new(),
        },
        apps,
        faults: target.faults.clone(),
        unread: unread(question),
    }
}

/// Every application that the target declares, and every other one that has data or is live.
fn cases<'a>(question: &Question<'a>, target: &'a Offer) -> Vec<Case<'a>> {
    let mut cases: Vec<Case<'a>> = Vec::new();
    for (app, declared) in &target.apps {
        cases.push(match declared {
            Ok(declared) => declared_case(question, app, declared),
            Err(why) => Case {
                cause: Some(Cause::Unread(why.clone())),
                ..left_alone(app, None, Label::Unknown)
            },
        });
    }
    for (dataset, fate) in question.datasets {
        for (app, label) in labels(fate).into_iter().flatten() {
            // Nobody knows where the target keeps it if its declaration cannot be read.
            let there = |it: &Case<'_>| it.dataset.is_none_or(|its| its == dataset);
            if !cases.iter().any(|it| it.app == app && there(it)) {
                cases.push(left_alone(app, Some(dataset), label.clone()));
            }
        }
    }
    let live = question.versions.get(&Version::Live);
    for (app, declared) in live.into_iter().flat_map(|live| &live.apps) {
        if let (Ok(declared), false) = (declared, cases.iter().any(|it| it.app == app)) {
            cases.push(left_alone(app, Some(&declared.dataset), Label::Unknown));
        }
    }
    cases.sort_by_key(|it| (it.dataset, it.app));
    cases
}

fn left_alone<'a>(app: &'a AppName, dataset: Option<&'a Name>, present: Label) -> Case<'a> {
    Case {
        app,
        dataset,
        present,
        fresh: false,
        declared: None,
        cause: None,
        path: None,
        only_running: false,
    }
}

fn labels(fate: &Fate) -> Option<&Labels> {
    match fate {
        Fate::Stays { labels, .. } => Some(labels),
        Fate::Exchanged(kept) => Some(&kept.labels),
        Fate::Fresh => None,
    }
}

fn declared_case<'a>(
    question: &Question<'a>,
    app: &'a AppName,
    declared: &'a Declaration,
) -> Case<'a> {
    let case = Case {
        declared: Some(declared),
        ..left_alone(app, Some(&declared.dataset), Label::Unknown)
    };
    let Some(fate) = question.datasets.get(&declared.dataset) else {
        return Case {
            cause: Some(Cause::NoDataset),
            ..case
        };
    };
    let Some(labels) = labels(fate) else {
        return Case {
            present: Label::Known(declared.state.clone()),
            fresh: true,
            ..case
        };
    };
    let present = labels.get(app).cloned().unwrap_or(Label::Unknown);
    let own = matches!(fate, Fate::Exchanged(kept) if kept.of == question.target);
    let mut cause = why_not(declared, &present, own);
    if let Some(Cause::Unlabelled { elsewhere }) = &mut cause {
        *elsewhere = labelled_elsewhere(question, app);
    }
    let (mut path, mut only_running) = (None, false);
    if let (Some(Cause::CannotRead), Label::Known(state)) = (&cause, &present) {
        let graph = Graph::of(question.versions, app, &declared.dataset);
        let through = match question.by {
            By::Running => Through::Any,
            By::Console | By::Itself => Through::Early,
        };
        path = graph.path(state, declared, through);
        only_running = path.is_none() && graph.path(state, declared, Through::Any).is_some();
    }
    Case {
        present,
        cause,
        path,
        only_running,
        ..case
    }
}

/// Why a version does not live with data; `own` if it ran with it before.
fn why_not(declared: &Declaration, label: &Label, own: bool) -> Option<Cause> {
    match label {
        Label::Known(state) if declared.lives_with(state) => None,
        Label::Known(_) => Some(Cause::CannotRead),
        Label::Unknown if declared.reads_unknown || own => None,
        Label::Unknown => Some(Cause::Unlabelled { elsewhere: None }),
        Label::Converting { .. } => Some(Cause::Interrupted),
        Label::Damaged => Some(Cause::Damaged),
    }
}

fn labelled_elsewhere(question: &Question<'_>, app: &AppName) -> Option<Name> {
    let has = |fate: &Fate| {
        let label = labels(fate).and_then(|labels| labels.get(app));
        label.is_some_and(|label| *label != Label::Unknown)
    };
    let found = question.datasets.iter().find(|(_, fate)| has(fate));
    found.map(|(name, _)| name.clone())
}

fn wholes<'a>(question: &Question<'a>, cases: &[Case<'a>]) -> BTreeMap<&'a Name, Whole<'a>> {
    let whole = |(name, fate): (&'a Name, &'a Fate)| {
        let inside = || cases.iter().filter(move |it| it.dataset == Some(name));
        let kept = match fate {
            Fate::Stays { kept, .. } => kept.as_ref(),
            Fate::Exchanged(_) | Fate::Fresh => None,
        };
        let fits = |kept: &&Kept| {
            let mut declared = inside().filter_map(|it| Some((it.app, it.declared?)));
            declared.all(|(app, declared)| {
                let label = kept.labels.get(app).unwrap_or(&Label::Unknown);
                why_not(declared, label, kept.of == question.target).is_none()
            })
        };
        let back = kept.filter(fits);
        let whole = Whole {
            needs: inside().any(|it| it.cause.is_some()),
            back,
            kept_unfit: kept.is_some() && back.is_none(),
        };
        (name, whole)
    };
    question.datasets.iter().map(whole).collect()
}

/// Whether an application goes under this rule.
fn passes(case: &Case<'_>, wholes: &BTreeMap<&Name, Whole<'_>>, rule: Rule) -> bool {
    case.cause.is_none()
        || match rule {
            Rule::Agreed(Consent::Refuse) => false,
            Rule::Agreed(Consent::Convert) => case.path.is_some(),
            Rule::Agreed(Consent::Restore) => goes_back(case, wholes).is_some(),
            Rule::Nobody(seconds) => lossless(case).is_some() && seconds <= BY_ITSELF,
        }
}

/// The path of an application that needs one, if nothing is lost on it.
fn lossless<'a>(case: &'a Case<'_>) -> Option<&'a Path> {
    let path = case.path.as_ref().filter(|path| path.lossy == 0);
    path.filter(|_| case.cause.is_some())
}

/// What these may take together, in seconds.
fn seconds(cases: &[Case<'_>]) -> u64 {
    let paths = cases.iter().filter_map(lossless);
    paths.fold(0, |sum, path| sum.saturating_add(path.seconds()))
}

/// What the dataset of an application goes back to, if that is needed and can be done.
fn goes_back<'a>(case: &Case<'_>, wholes: &BTreeMap<&Name, Whole<'a>>) -> Option<&'a Kept> {
    wholes.get(case.dataset?).filter(|it| it.needs)?.back
}

fn answer(
    case: &Case<'_>,
    wholes: &BTreeMap<&Name, Whole<'_>>,
    rule: Rule,
    question: &Question<'_>,
) -> AppVerdict {
    let back = goes_back(case, wholes);
    let restore = back.map(|kept| Restore {
        of: kept.of,
        since: kept.since,
        state: known(kept.labels.get(case.app)),
    });
    let going_back = rule == Rule::Agreed(Consent::Restore) && restore.is_some();
    let answer = match (case.declared, &restore, &case.path) {
        (None, _, _) if case.cause.is_none() => Answer::LeftAlone(lot(case, question, going_back)),
        (_, Some(kept), _) if going_back => Answer::Restore { kept: kept.clone() },
        _ if case.cause.is_none() => Answer::Nothing,
        (_, _, Some(path)) if passes(case, wholes, rule) => Answer::Convert {
            path: path.clone(),
            lossy: path.lossy > 0,
        },
        _ => Answer::Refuse(refusal(case, wholes, rule)),
    };
    let after = match &answer {
        Answer::Convert { path, .. } => path.end().cloned(),
        Answer::Restore { kept } => kept.state.clone(),
        Answer::LeftAlone(_) if going_back => restore.as_ref().and_then(|it| it.state.clone()),
        Answer::LeftAlone(Lot::Goes) => None,
        _ => known(Some(&case.present)),
    };
    AppVerdict {
        app: case.app.clone(),
        dataset: case.dataset.cloned(),
        present: case.present.clone(),
        fresh: case.fresh,
        reads: case.declared.map(reads).unwrap_or_default(),
        convert: case.path.clone(),
        restore: restore.filter(|_| case.declared.is_some()),
        answer,
        after,
    }
}

fn known(label: Option<&Label>) -> Option<AppState> {
    match label {
        Some(Label::Known(state)) => Some(state.clone()),
        _ => None,
    }
}

fn reads(declared: &Declaration) -> Vec<AppState> {
    let native = [&declared.state].into_iter();
    native.chain(&declared.reads).cloned().collect()
}

fn lot(case: &Case<'_>, question: &Question<'_>, going_back: bool) -> Lot {
    let fate = case.dataset.and_then(|name| question.datasets.get(name));
    match fate {
        _ if going_back => Lot::GoesBack,
        Some(Fate::Exchanged(_)) => Lot::GoesBack,
        Some(Fate::Fresh) => Lot::Goes,
        Some(Fate::Stays { .. }) | None => Lot::Stays,
    }
}

fn refusal(case: &Case<'_>, wholes: &BTreeMap<&Name, Whole<'_>>, rule: Rule) -> Refusal {
    let whole = case.dataset.and_then(|name| wholes.get(name));
    Refusal {
        cause: case.cause.clone().unwrap_or(Cause::CannotRead),
        offers: Consent::ALL
            .into_iter()
            .filter(|consent| passes(case, wholes, Rule::Agreed(*consent)))
            .collect(),
        only_running: case.only_running,
        kept_unfit: whole.is_some_and(|it| it.kept_unfit),
        too_long: match rule {
            Rule::Nobody(seconds) => lossless(case).map(|_| seconds),
            Rule::Agreed(_) => None,
        },
    }
}

fn services(question: &Question<'_>, apps: &[AppVerdict]) -> Vec<String> {
    let converted: BTreeSet<&Name> = apps
        .iter()
        .filter(|it| matches!(it.answer, Answer::Convert { .. }))
        .filter_map(|it| it.dataset.as_ref())
        .collect();
    let live = question.versions.get(&Version::Live);
    let declared = live.into_iter().flat_map(|live| live.apps.values());
    let services: BTreeSet<&String> = declared
        .filter_map(|it| it.as_ref().ok())
        .filter(|it| converted.contains(&it.dataset))
        .flat_map(|it| &it.services)
        .collect();
    services.into_iter().cloned().collect()
}

fn unread(question: &Question<'_>) -> Vec<Fault> {
    let others = question.versions.iter();
    others
        .filter(|(version, _)| **version != question.target)
        .flat_map(|(version, offer)| {
            let apps = offer.apps.iter().filter_map(move |(app, declared)| {
                let why = declared.as_ref().err()?.clone();
                Some(Fault {
                    version: *version,
                    file: format!("{app}.toml"),
                    why,
                })
            });
            apps.chain(offer.faults.iter().cloned())
        })
        .collect()
}
