//! The one table of backstay's parameters.
//!
//! A parameter, a value, a restriction or a sentence of help is changed here and nowhere else:
//! parser, refusals, manual page and tests are made from [`TABLE`].

use crate::request::{Attempt, Fence, Level, Request, Tarball, Target, Verb};

/// What every name of ours starts with.
///
/// Dotted, because the kernel hands neither dotted words nor dotted `k=v` to init, and more than
/// 32 undotted ones that it does not know make it panic. No kernel module is called backstay.
pub const PREFIX: &str = "backstay.";

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// The name without [`PREFIX`].
    pub name: &'static str,
    /// Verb, modifier or sentinel.
    pub kind: Kind,
    /// Which verbs it goes with.
    pub fit: Fit,
    /// The forms its value may take; the first that matches is meant.
    pub forms: &'static [Form],
    /// One line.
    pub meaning: &'static str,
    /// Paragraphs of the manual page.
    pub help: &'static [&'static str],
}

/// What sort of parameter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says what to do; at most one on a command line.
    Verb,
    /// Says how.
    Modifier,
    /// Says that the line is whole.
    Sentinel,
}

/// Which verbs a parameter goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// With any verb, and without one.
    Any,
    /// Only where there is no verb.
    NoVerb,
    /// Only with a verb that changes the live set.
    Changing,
    /// Only with a verb that leaves the live version for good.
    Leaving,
    /// Only with `reset=system`.
    ResetSystem,
    /// Only with `reset=system` and `reset=everything`.
    FactoryReset,
}

/// One form that a parameter's value may take.
#[derive(Debug)]
pub struct Form {
    /// Its grammar.
    pub value: Value,
    /// What this form asks for, one line.
    pub meaning: &'static str,
    pub(crate) effect: Effect,
}

/// The grammar of a value. All are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value and no `=`.
    Absent,
    /// This word.
    Word(&'static str),
    /// A snapshot's id: decimal, 1 to 4294967295, no sign, no leading zero.
    Id,
    /// Seconds: decimal, 1 to 86400, no sign, no leading zero.
    Seconds,
    /// `SEQ:N`, two numbers written as an id is; N may be 0.
    Attempt,
    /// `SOURCE:/PATH`, at most 255 bytes, from the letters that every boot loader leaves alone.
    Location,
}

impl Value {
    /// As the manual page and the refusals write it.
    #[must_use]
    pub const fn syntax(&self) -> &'static str {
        match self {
            Self::Absent => "",
            Self::Word(word) => word,
            Self::Id => "ID",
            Self::Seconds => "SECONDS",
            Self::Attempt => "SEQ:N",
            Self::Location => "SOURCE:/PATH",
        }
    }
}

/// What a form does to the request.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A verb without a number.
    Verb(Verb),
    /// A verb with the number that was given.
    NumberedVerb(fn(u32) -> Verb),
    KeepConfig,
    Fence(Fence),
    Tarball,
    ConsoleJson,
    Present,
    Attempt,
    End,
}

/// What a value was read as.
pub(crate) enum Given<'a> {
    Nothing,
    Number(u32),
    Attempt(Attempt),
    Location(&'a str),
}

impl Effect {
    /// Sets it. A form's grammar decides what is given, so the other combinations do not occur.
    pub(crate) fn apply(&self, given: Given<'_>, request: &mut Request) {
        match (self, given) {
            (Self::Verb(verb), _) => request.verb = Some(*verb),
            (Self::NumberedVerb(verb), Given::Number(number)) => request.verb = Some(verb(number)),
            (Self::KeepConfig, _) => request.keep_config = true,
            (Self::Fence(fence), _) => request.fence = Some(*fence),
            (Self::Tarball, Given::Location(text)) => {
                request.tarball = Tarball::try_from(text).ok()
            }
            (Self::ConsoleJson, _) => request.console_json = true,
            (Self::Present, _) => request.present = true,
            (Self::Attempt, Given::Attempt(attempt)) => request.attempt = Some(attempt),
            (Self::End | Self::NumberedVerb(_) | Self::Tarball | Self::Attempt, _) => {}
        }
    }
}

const fn form(value: Value, effect: Effect, meaning: &'static str) -> Form {
    Form {
        value,
        meaning,
        effect,
    }
}

/// All parameters, in the order of the manual page: verbs, modifiers, the sentinel.
pub const TABLE: &[Parameter] = &[
    Parameter {
        name: "rollback",
        kind: Kind::Verb,
        fit: Fit::Any,
        forms: &[
            form(
                Value::Word("previous"),
                Effect::Verb(Verb::Rollback(Target::Previous)),
                "the snapshot before the live set in its history",
            ),
            form(
                Value::Id,
                Effect::NumberedVerb(|id| Verb::Rollback(Target::Id(id))),
                "the snapshot with this id",
            ),
        ],
        meaning: "promote an earlier snapshot",
        help: &[
            "A writable clone of the snapshot takes the live place, system and configuration \
             together. What was live becomes a snapshot with a new id, so nothing is lost. \
             Customer data stays as it is.",
            "Undone by backstay.forward.",
        ],
    },
    Parameter {
        name: "forward",
        kind: Kind::Verb,
        fit: Fit::Any,
        forms: &[form(
            Value::Absent,
            Effect::Verb(Verb::Forward),
            "one step forward",
        )],
        meaning: "undo the last rollback",
        help: &[
            "Goes one step forward in the history; as often as there were rollbacks. Refused where \
             nothing is ahead.",
            "Undone by backstay.rollback=previous.",
        ],
    },
    Parameter {
        name: "select",
        kind: Kind::Verb,
        fit: Fit::Any,
        forms: &[form(
            Value::Id,
            Effect::NumberedVerb(Verb::Select),
            "the snapshot with this id",
        )],
        meaning: "boot a clone of a snapshot once",
        help: &[
            "What was live is parked untouched and comes back at the next boot. What was changed \
             meanwhile becomes a snapshot.",
            "Undone by booting again.",
        ],
    },
    Parameter {
        name: "reset",
        kind: Kind::Verb,
        fit: Fit::Any,
        forms: &[
            form(
                Value::Word("config"),
                Effect::Verb(Verb::Reset(Level::Config)),
                "fresh configuration from the live version's own defaults; system and data stay",
            ),
            form(
                Value::Word("config,data"),
                Effect::Verb(Verb::Reset(Level::ConfigAndData)),
                "the same, and each data dataset fresh from its template; the system stays",
            ),
            form(
                Value::Word("system"),
                Effect::Verb(Verb::Reset(Level::System)),
                "system and configuration of the factory snapshot; data stays",
            ),
            form(
                Value::Word("everything"),
                Effect::Verb(Verb::Reset(Level::Everything)),
                "system and configuration of the factory snapshot, and fresh data; the old data \
                 and all other snapshots are deleted once the new system was marked good",
            ),
        ],
        meaning: "back to the defaults or to the factory's state",
        help: &[
            "Undone by backstay.rollback=previous; after reset=everything only until the new \
             system was marked good. Deleting is not erasing: what was on the disk may still be \
             read from it by other means.",
        ],
    },
    Parameter {
        name: "menu",
        kind: Kind::Verb,
        fit: Fit::Any,
        forms: &[
            form(
                Value::Absent,
                Effect::Verb(Verb::Menu(None)),
                "with the usual time-out",
            ),
            form(
                Value::Seconds,
                Effect::NumberedVerb(|seconds| Verb::Menu(Some(seconds))),
                "boot on after this many seconds without a command; 1 to 86400, which is a day",
            ),
        ],
        meaning: "open the menu on the console",
        help: &["Changes nothing by itself, and so needs neither consent nor the sentinel."],
    },
    Parameter {
        name: "keep",
        kind: Kind::Modifier,
        fit: Fit::ResetSystem,
        forms: &[form(
            Value::Word("config"),
            Effect::KeepConfig,
            "keep the live configuration",
        )],
        meaning: "what a reset of the system keeps",
        help: &["Without it, reset=system takes the factory's configuration too."],
    },
    Parameter {
        name: "fence",
        kind: Kind::Modifier,
        fit: Fit::Leaving,
        forms: &[
            form(
                Value::Word("refuse"),
                Effect::Fence(Fence::Refuse),
                "refuse it, as without this parameter",
            ),
            form(
                Value::Word("convert"),
                Effect::Fence(Fence::Convert),
                "convert a copy of the data, by converters that may run before boot",
            ),
            form(
                Value::Word("restore"),
                Effect::Fence(Fence::Restore),
                "return to the data as it was before, losing what came since",
            ),
        ],
        meaning: "what to do with a version that cannot read the present data",
        help: &[
            "Each is only what it says: convert never goes back, and restore never converts. Where \
             that does not lead to a version that can read the data, nothing is changed.",
            "GRUB shows no plan, so convert is also the consent to what converters lose, where no path \
             loses nothing. What that is, 'backstay fence explain' says in the running system, and the \
             menu before it does it.",
            "What is replaced stays with the snapshot that is made, and comes back by \
             fence=restore alone. docs/fencing.md has the rules.",
        ],
    },
    Parameter {
        name: "tarball",
        kind: Kind::Modifier,
        fit: Fit::FactoryReset,
        forms: &[form(
            Value::Location,
            Effect::Tarball,
            "the device (as in root=) and the path on it",
        )],
        meaning: "where the default tarball lies",
        help: &[
            "Taken only where the factory snapshot is missing or fails its check, and only \
             with a good signature, which lies beside it under the same name with .minisig \
             added. Without this parameter the one in the store is taken, if there is one: \
             @backstay/factory.tar.zst, factory.tar.xz, factory.tar.gz or factory.tar.",
            "The device may hold FAT, ext2 to ext4, ISO 9660 or btrfs. It is mounted read-only; \
             nothing is written to it.",
        ],
    },
    Parameter {
        name: "console",
        kind: Kind::Modifier,
        fit: Fit::Any,
        forms: &[form(
            Value::Word("json"),
            Effect::ConsoleJson,
            "one JSON object a line, in and out",
        )],
        meaning: "how backstay writes on the console",
        help: &[
            "Without it, lines for people. docs/console.md has the objects. For remote hands, with backstay.menu.",
        ],
    },
    Parameter {
        name: "present",
        kind: Kind::Modifier,
        fit: Fit::Changing,
        forms: &[form(
            Value::Absent,
            Effect::Present,
            "a person is there and has said yes",
        )],
        meaning: "consent, given at the boot loader",
        help: &[
            "Added by backstay's GRUB entries after ESC was pressed at their question, and by \
             nothing else: an entry that carries it for good acts again at each boot that takes \
             the entry. Without it, a verb that changes something needs a ticket (written by \
             backstay(8) in the running system) or the word typed in the menu.",
        ],
    },
    Parameter {
        name: "attempt",
        kind: Kind::Modifier,
        fit: Fit::NoVerb,
        forms: &[form(
            Value::Attempt,
            Effect::Attempt,
            "attempt N of the trial counted by state record SEQ; 0: kexec itself is tried",
        )],
        meaning: "this boot is a counted attempt of a trial",
        help: &[
            "Added by backstay itself when it starts a kernel by kexec: a trial's, or, with N=0, the \
             recovery kernel's own, to see whether this machine can do that. Not for people.",
        ],
    },
    Parameter {
        name: "end",
        kind: Kind::Sentinel,
        fit: Fit::Any,
        forms: &[form(Value::Absent, Effect::End, "the line is whole")],
        meaning: "closes backstay's parameters",
        help: &[
            "Boot loaders and kernels cut a command line that is too long (2048 bytes on x86 and \
             arm64, the final NUL included), and GRUB does so silently. So a verb that changes \
             something is carried out only if backstay.end came through: after all other \
             backstay parameters, and before any --.",
        ],
    },
];
