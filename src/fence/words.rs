//! The answer in words, in lines of at most [`WIDTH`] columns, for a plan and for a refusal.
//!
//! What comes from a declaration is printable by then (`names`, `declaration`); what the reader of TOML said of one is
//! cut and cleaned there.

use super::graph::Step;
use super::names::{AppState, Version};
use super::question::{BY_ITSELF, By, Fault, Label};
use super::verdict::{Answer, AppVerdict, Cause, Lot, Refusal, Restore, Verdict};
use crate::console::text::utc;

/// Columns of a line at the most.
pub const WIDTH: usize = 78;

/// The state of data, in a word or a few.
pub fn state(label: &Label) -> String {
    match label {
        Label::Known(state) => format!("state {state}"),
        Label::Unknown => "state unknown".to_owned(),
        Label::Converting { from, to } => format!("between states {from} and {to}"),
        Label::Damaged => "what is recorded of its state is damaged".to_owned(),
    }
}

/// The whole answer.
pub fn lines(verdict: &Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    wrap(&mut lines, 0, &head(verdict));
    for fault in &verdict.faults {
        wrap(&mut lines, 2, &format!("refused: {}", unread(fault)));
    }
    for app in &verdict.apps {
        wrap(&mut lines, 2, &self::app(app));
        if let Answer::Convert { path, .. } = &app.answer {
            path.steps
                .iter()
                .for_each(|it| wrap(&mut lines, 6, &step(it)));
        }
        if let Answer::Refuse(refusal) = &app.answer {
            offers(app, refusal)
                .iter()
                .for_each(|it| wrap(&mut lines, 6, it));
        }
    }
    if !verdict.services.is_empty() {
        let services = verdict.services.join(", ");
        wrap(
            &mut lines,
            2,
            &format!("stopped from the conversion to the reboot: {services}"),
        );
    }
    if !verdict.goes {
        wrap(&mut lines, 2, &what_else(verdict));
        for fault in &verdict.unread {
            wrap(
                &mut lines,
                2,
                &format!("its converters are not known: {}", unread(fault)),
            );
        }
    }
    lines
}

/// Of an answer only what is refused, and why.
pub fn reasons(verdict: &Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    let refused = |it: &&AppVerdict| matches!(it.answer, Answer::Refuse(_));
    for app in verdict.apps.iter().filter(refused) {
        wrap(&mut lines, 2, &self::app(app));
    }
    lines
}

fn head(verdict: &Verdict) -> String {
    let target = verdict.target;
    let answered = |is: fn(&Answer) -> bool| verdict.apps.iter().any(|it| is(&it.answer));
    let convert = answered(|it| matches!(it, Answer::Convert { .. }));
    let restore = answered(|it| matches!(it, Answer::Restore { .. }));
    match (verdict.goes, convert, restore) {
        (false, _, _) => format!("{target}: refused, its applications cannot run on the data"),
        (true, false, false) => format!("{target}: no conversion needed"),
        (true, true, _) => format!("{target}: after a conversion of a clone of the data"),
        (true, false, true) => format!("{target}: with the data as it was"),
    }
}

/// One application's answer, in one line of any length.
pub fn app(app: &AppVerdict) -> String {
    format!("{}: {}", name(app), answer(app))
}

fn name(app: &AppVerdict) -> String {
    let state = match (&app.present, app.fresh) {
        (Label::Known(state), true) => format!("fresh {state}"),
        (label, _) => state(label),
    };
    match &app.dataset {
        Some(dataset) => format!("{} (dataset {dataset}, {state})", app.app),
        None => app.app.to_string(),
    }
}

fn answer(app: &AppVerdict) -> String {
    match &app.answer {
        Answer::Nothing => "no conversion needed".to_owned(),
        Answer::LeftAlone(Lot::Stays) => {
            "that version does not have it there; its data is left alone".to_owned()
        }
        Answer::LeftAlone(Lot::GoesBack) => {
            "that version does not have it there; its data goes back with the dataset".to_owned()
        }
        Answer::LeftAlone(Lot::Goes) => {
            "that version does not have it there; its data goes with the dataset".to_owned()
        }
        Answer::Convert { lossy: false, .. } => "convert by this path, nothing is lost".to_owned(),
        Answer::Convert { lossy: true, .. } => {
            "convert by this path, on which SOMETHING IS LOST".to_owned()
        }
        Answer::Restore { kept } => format!("return to the data as it was {}", since(kept)),
        Answer::Refuse(refusal) => format!("refused, since {}", cause(app, refusal)),
    }
}

/// From when the data is, and what going back to it means.
fn since(kept: &Restore) -> String {
    let state = match &kept.state {
        Some(state) => format!(" in state {state}"),
        None => String::new(),
    };
    match kept.since {
        Some(since) => format!(
            "at {} (by a clock that may have been wrong){state}; WHAT CAME SINCE IS LOST",
            utc(since)
        ),
        None => format!(
            "when {} last ran{state}; WHAT CAME SINCE IS LOST, and how much that is is not known",
            kept.of
        ),
    }
}

/// One step of a path, or one edge.
pub fn step(step: &Step) -> String {
    let loses = match step.lossless {
        true => "",
        false => ", LOSES SOMETHING",
    };
    format!(
        "{} to {} by {} of {}, cost {}{loses}",
        step.from,
        step.to,
        base_name(&step.command),
        step.shipped_by,
        step.cost
    )
}

/// The last part of the program's path.
pub fn base_name(command: &[String]) -> &str {
    let program = command.first().map(String::as_str).unwrap_or_default();
    program.rsplit('/').next().unwrap_or(program)
}

fn cause(app: &AppVerdict, refusal: &Refusal) -> String {
    match &refusal.cause {
        Cause::Unread(why) => format!(
            "its declaration {}.toml in that version cannot be read: {why}",
            app.app
        ),
        Cause::NoDataset => {
            "this machine has no such dataset, where that version keeps its data".to_owned()
        }
        Cause::Unlabelled { elsewhere: None } => {
            "nobody knows the state of its data, and that version does not say that it lives with that"
                .to_owned()
        }
        Cause::Unlabelled {
            elsewhere: Some(name),
        } => format!("its data is in dataset {name}, and that version looks for it here"),
        Cause::Interrupted => {
            "a conversion was interrupted, and nothing reads what it left".to_owned()
        }
        Cause::Damaged => "nobody knows the state of its data".to_owned(),
        Cause::CannotRead => format!("that version reads {}", listed(&app.reads)),
    }
}

fn listed(states: &[AppState]) -> String {
    match states.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.to_string(),
        Some((last, rest)) => {
            let rest: Vec<&str> = rest.iter().map(AppState::as_str).collect();
            format!("{} and {last}", rest.join(", "))
        }
    }
}

/// What there would be, a line each; what to do where there is nothing.
fn offers(app: &AppVerdict, refusal: &Refusal) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(path) = &app.convert {
        let loses = match path.lossy {
            0 => "nothing is lost",
            _ => "SOMETHING IS LOST",
        };
        lines.push(format!(
            "with fence=convert: convert by this path, {loses}:"
        ));
        lines.extend(path.steps.iter().map(|it| format!("  {}", step(it))));
    }
    if let Some(seconds) = refusal.too_long {
        lines.push(format!(
            "nobody is there, and all that would be run may take {}, by the time limits: more than {} is never begun then",
            lasting(seconds),
            lasting(BY_ITSELF)
        ));
    }
    if let Some(kept) = &app.restore {
        lines.push(format!(
            "with fence=restore: return to the data as it was {}",
            since(kept)
        ));
    }
    if refusal.only_running {
        lines.push(
            "converters lead there, but not all can run before boot: ask for it in the running system"
                .to_owned(),
        );
    }
    if refusal.kept_unfit {
        lines.push("data is kept to return to, but that version cannot read it either".to_owned());
    }
    if lines.is_empty() {
        lines.push(remedy(app, &refusal.cause));
    }
    lines
}

/// A time in hours, minutes and seconds, without those that are none.
fn lasting(seconds: u64) -> String {
    let units = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let some = units.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> = some
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    texts.join(" ")
}

fn remedy(app: &AppVerdict, cause: &Cause) -> String {
    let app = &app.app;
    match cause {
        Cause::Unread(_) => {
            "choose another version, or mend the declaration in one that follows".to_owned()
        }
        Cause::NoDataset => {
            "declare it in layout.toml and run 'backstay init', or choose another version".to_owned()
        }
        Cause::Unlabelled { elsewhere: None } => format!(
            "say its state with 'backstay state set {app} STATE' if you know it, or choose another version"
        ),
        Cause::Unlabelled { elsewhere: Some(_) } => format!(
            "move it there yourself and say its state with 'backstay state set {app} STATE', or choose another version"
        ),
        Cause::Interrupted => format!(
            "finish the conversion in the version that began it and say 'backstay state commit {app}', or choose one \
             that has data kept"
        ),
        Cause::Damaged => format!(
            "record the state that it is in with 'backstay state abort {app}' and 'backstay state set {app} STATE', or \
             choose another version"
        ),
        Cause::CannotRead => {
            "no converter on this disk leads there and no data is kept to return to: choose another version"
                .to_owned()
        }
    }
}

fn what_else(verdict: &Verdict) -> String {
    let words: Vec<String> = verdict
        .possible
        .iter()
        .map(|consent| format!("fence={}", consent.word()))
        .collect();
    let nobody = match verdict.by {
        By::Itself => "nobody was there to agree; ",
        By::Running | By::Console => "",
    };
    let mixed = verdict.apps.iter().all(|it| match &it.answer {
        Answer::Refuse(refusal) => !refusal.offers.is_empty(),
        _ => true,
    });
    match words.is_empty() {
        false => format!(
            "nothing is changed; {nobody}{} {}",
            words.join(" or "),
            match verdict.target {
                Version::Live => "does it".to_owned(),
                other => format!("goes to {other}"),
            }
        ),
        true if mixed && verdict.faults.is_empty() => format!(
            "nothing is changed; {nobody}some would have to be converted and others to go back, which is never done at \
             once: choose another version than {}",
            verdict.target
        ),
        true => format!("nothing is changed; {nobody}nothing that could be agreed to goes there"),
    }
}

fn unread(fault: &Fault) -> String {
    format!(
        "{} of {} cannot be read: {}",
        fault.file, fault.version, fault.why
    )
}

/// Adds a text as lines with an indent, further lines by two columns more.
fn wrap(lines: &mut Vec<String>, indent: usize, text: &str) {
    let inner = text.chars().take_while(|c| *c == ' ').count();
    let indent = indent.saturating_add(inner);
    let mut line = " ".repeat(indent);
    let mut left = WIDTH.saturating_sub(indent);
    let mut is_empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        if !is_empty {
            if word.len() < left {
                line.push(' ');
                left = left.saturating_sub(1);
            } else {
                lines.push(core::mem::replace(&mut line, " ".repeat(indent + 2)));
                left = WIDTH.saturating_sub(indent + 2);
            }
        }
        // A word that no line has room for.
        while word.len() > left {
            let rest = word.split_off(left.max(1));
            line.extend(word);
            lines.push(core::mem::replace(&mut line, " ".repeat(indent + 2)));
            left = WIDTH.saturating_sub(indent + 2);
            word = rest;
        }
        left = left.saturating_sub(word.len());
        line.extend(word);
        is_empty = false;
    }
    lines.push(line);
}

/// A version in a few letters, for a drawing.
pub fn short(version: Version) -> String {
    match version {
        Version::Factory => "factory".to_owned(),
        Version::Snapshot(id) => id.to_string(),
        Version::Live => "live".to_owned(),
    }
}
