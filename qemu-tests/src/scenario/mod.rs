//! The scenarios: stories that are played on virtual machines, one file a group.
//!
//! A scenario is a function over a [`Context`] and reads as a story: given a disk, when this entry
//! is chosen, then this line on the console and this tree on the disk. It ends at the first thing
//! that is not as expected. To add one, write the function in its group's file and name it in that
//! file's `SCENARIOS`; the table here only joins the groups.

mod boots;
mod btrfs;
mod console;
mod console_access;
mod console_trouble;
mod context;
mod conversion;
mod databases;
mod dead_end;
mod fallback;
mod fault;
mod fence;
mod grub_password;
mod guard;
mod hibernation;
mod installed;
mod kernel;
mod mirror;
mod packages;
mod premise_grub;
mod refuse;
mod reset;
mod rollback;
pub mod runner;
mod running;
mod secure_boot;
mod selftest;
pub mod steps;
mod stock;
pub mod store;
mod tarball;
mod trial;

use std::time::Duration;

use anyhow::Result;

pub use context::Context;

/// What a scenario runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Machine {
    /// No guest at all, or one without a disk.
    None,
    /// The small disk with a busybox root: seconds.
    Tiny,
    /// The real Debian with systemd up to its login prompt: minutes under emulation.
    Debian,
}

/// One story.
pub struct Scenario {
    /// Its name on the command line, in words joined by `-`.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub about: &'static str,
    /// What it runs on.
    pub machine: Machine,
    /// Whether every `cargo check-all` plays it; the others take turns.
    pub core: bool,
    /// Whether it needs root on this machine, beside its guests.
    pub needs_root: bool,
    /// Whether its machines have databases.
    pub databases: bool,
    /// How long it usually takes at most, under emulation, when two are played at once.
    pub usual: Duration,
    /// When it is given up, under emulation.
    pub limit: Duration,
    /// The story.
    pub play: fn(&mut Context) -> Result<()>,
}

impl Scenario {
    /// A story on the small disk, given up after 10 minutes, that takes turns with others.
    #[must_use]
    pub const fn tiny(
        name: &'static str,
        about: &'static str,
        play: fn(&mut Context) -> Result<()>,
    ) -> Self {
        let limit = Duration::from_secs(600);
        Self {
            name,
            about,
            machine: Machine::Tiny,
            core: false,
            needs_root: false,
            databases: false,
            usual: Duration::from_secs(120),
            limit,
            play,
        }
    }

    /// A story on the real Debian, given up after 20 minutes, that takes turns with others.
    #[must_use]
    pub const fn debian(
        name: &'static str,
        about: &'static str,
        play: fn(&mut Context) -> Result<()>,
    ) -> Self {
        let limit = Duration::from_secs(1200);
        Self {
            machine: Machine::Debian,
            usual: Duration::from_secs(480),
            limit,
            ..Self::tiny(name, about, play)
        }
    }

    /// A story without a disk.
    #[must_use]
    pub const fn plain(
        name: &'static str,
        about: &'static str,
        play: fn(&mut Context) -> Result<()>,
    ) -> Self {
        let limit = Duration::from_secs(180);
        Self {
            machine: Machine::None,
            usual: Duration::from_secs(10),
            limit,
            ..Self::tiny(name, about, play)
        }
    }

    /// The same, played by every `cargo check-all`.
    #[must_use]
    pub const fn core(mut self) -> Self {
        self.core = true;
        self
    }

    /// The same, for root only.
    #[must_use]
    pub const fn as_root(mut self) -> Self {
        self.needs_root = true;
        self
    }

    /// The same, on machines with databases (`crate::image::databases`).
    #[must_use]
    pub const fn with_databases(mut self) -> Self {
        self.databases = true;
        self
    }

    /// The same, taking usually so many seconds.
    #[must_use]
    pub const fn usually(mut self, seconds: u64) -> Self {
        self.usual = Duration::from_secs(seconds);
        self
    }

    /// The same with another limit.
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// A file of scenarios.
pub struct Group {
    /// Its name, for `--group`.
    pub name: &'static str,
    /// Its file: the name of the module, and its text.
    pub story: (&'static str, &'static str),
    /// Its stories.
    pub scenarios: &'static [Scenario],
}

impl Group {
    /// The texts that decide what its scenarios do, beside what all have: its own, and those of the groups whose steps it
    /// takes.
    #[must_use]
    pub fn texts(&self) -> Vec<&'static str> {
        let mut names = vec![self.story.0];
        let mut at = 0;
        while let Some(name) = names.get(at) {
            at += 1;
            let of = GROUPS.iter().find(|group| group.story.0 == *name);
            let text = of.map_or("", |group| group.story.1);
            for group in GROUPS {
                let other = group.story.0;
                if text.contains(&format!("super::{other}::")) && !names.contains(&other) {
                    names.push(other);
                }
            }
        }
        names.sort_unstable();
        let text = |name: &str| GROUPS.iter().find(|group| group.story.0 == name);
        names
            .into_iter()
            .filter_map(text)
            .map(|group| group.story.1)
            .collect()
    }
}

/// All groups, in the order in which they are played.
pub const GROUPS: &[Group] = &[
    Group {
        name: "selftest",
        story: ("selftest", include_str!("selftest.rs")),
        scenarios: selftest::SCENARIOS,
    },
    Group {
        name: "boots",
        story: ("boots", include_str!("boots.rs")),
        scenarios: boots::SCENARIOS,
    },
    Group {
        name: "rollback",
        story: ("rollback", include_str!("rollback.rs")),
        scenarios: rollback::SCENARIOS,
    },
    Group {
        name: "refuse",
        story: ("refuse", include_str!("refuse.rs")),
        scenarios: refuse::SCENARIOS,
    },
    Group {
        name: "fault",
        story: ("fault", include_str!("fault.rs")),
        scenarios: fault::SCENARIOS,
    },
    Group {
        name: "dead-end",
        story: ("dead_end", include_str!("dead_end.rs")),
        scenarios: dead_end::SCENARIOS,
    },
    Group {
        name: "console",
        story: ("console", include_str!("console.rs")),
        scenarios: console::SCENARIOS,
    },
    Group {
        name: "console-access",
        story: ("console_access", include_str!("console_access.rs")),
        scenarios: console_access::SCENARIOS,
    },
    Group {
        name: "console-trouble",
        story: ("console_trouble", include_str!("console_trouble.rs")),
        scenarios: console_trouble::SCENARIOS,
    },
    Group {
        name: "mirror",
        story: ("mirror", include_str!("mirror.rs")),
        scenarios: mirror::SCENARIOS,
    },
    Group {
        name: "reset",
        story: ("reset", include_str!("reset.rs")),
        scenarios: reset::SCENARIOS,
    },
    Group {
        name: "tarball",
        story: ("tarball", include_str!("tarball.rs")),
        scenarios: tarball::SCENARIOS,
    },
    Group {
        name: "trial",
        story: ("trial", include_str!("trial.rs")),
        scenarios: trial::SCENARIOS,
    },
    Group {
        name: "fallback",
        story: ("fallback", include_str!("fallback.rs")),
        scenarios: fallback::SCENARIOS,
    },
    Group {
        name: "fence",
        story: ("fence", include_str!("fence.rs")),
        scenarios: fence::SCENARIOS,
    },
    Group {
        name: "conversion",
        story: ("conversion", include_str!("conversion.rs")),
        scenarios: conversion::SCENARIOS,
    },
    Group {
        name: "packages",
        story: ("packages", include_str!("packages.rs")),
        scenarios: packages::SCENARIOS,
    },
    Group {
        name: "running",
        story: ("running", include_str!("running.rs")),
        scenarios: running::SCENARIOS,
    },
    Group {
        name: "guard",
        story: ("guard", include_str!("guard.rs")),
        scenarios: guard::SCENARIOS,
    },
    Group {
        name: "stock",
        story: ("stock", include_str!("stock.rs")),
        scenarios: stock::SCENARIOS,
    },
    Group {
        name: "installed",
        story: ("installed", include_str!("installed.rs")),
        scenarios: installed::SCENARIOS,
    },
    Group {
        name: "hibernation",
        story: ("hibernation", include_str!("hibernation.rs")),
        scenarios: hibernation::SCENARIOS,
    },
    Group {
        name: "secure-boot",
        story: ("secure_boot", include_str!("secure_boot.rs")),
        scenarios: secure_boot::SCENARIOS,
    },
    Group {
        name: "kernel",
        story: ("kernel", include_str!("kernel.rs")),
        scenarios: kernel::SCENARIOS,
    },
    Group {
        name: "grub",
        story: ("premise_grub", include_str!("premise_grub.rs")),
        scenarios: premise_grub::SCENARIOS,
    },
    Group {
        name: "grub-password",
        story: ("grub_password", include_str!("grub_password.rs")),
        scenarios: grub_password::SCENARIOS,
    },
    Group {
        name: "btrfs",
        story: ("btrfs", include_str!("btrfs.rs")),
        scenarios: btrfs::SCENARIOS,
    },
];

/// All scenarios with their groups' names.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Scenario)> {
    GROUPS.iter().flat_map(|group| {
        group
            .scenarios
            .iter()
            .map(|scenario| (group.name, scenario))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_depends_on_its_own_file_and_on_those_whose_steps_it_takes() {
        let of = |name: &str| {
            let group = GROUPS.iter().find(|group| group.name == name).unwrap();
            group.texts().len()
        };
        // guard takes steps of trial, and both of rollback, whose steps are its own.
        assert_eq!((of("rollback"), of("trial"), of("guard")), (1, 2, 3));
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own_that_can_be_typed() {
        let mut names: Vec<&str> = all().map(|(_, scenario)| scenario.name).collect();
        for name in &names {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(good), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
