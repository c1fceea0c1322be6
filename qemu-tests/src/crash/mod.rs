//! Power cuts on a real btrfs: records what a verb writes, and tries every disk that a cut may leave.
//!
//! ```text
//! verbs      what a row says;  rows, conversions: what is done to which machine, and what is right after it (ends)
//! run        chooses the states of a verb and books them;  report: what is said about them
//! lab        one verb: its recording, what is right, the check of one state
//!   builder    the machine, made by the real admin command;  converter: an application of it, whose data are books
//!   machine    its disk and its helper;  helper: the process in which agent and admin command run
//!   device     a loop device over  recorder (a FUSE file)  over  disk (pages in memory)
//!   recording  writes and flushes in order;  cut: the disks that they may leave
//!   view       what lies on a disk, in lines that can be compared;  look: what is asked of it
//!   right      what is right at an end, as the row says and not the engine
//!   hardship   not a cut, but its cousins: a disk without room (full), writes that fail
//! selfcheck  whether the recorder sees what the block layer does
//! boots      some of them, started for real in a virtual machine
//! keep       what a failure leaves under target/crash
//! control    deliberate bugs that must be caught
//! ```
//! docs/power-cuts.md says what this models and what it does not.

pub mod act;
pub mod books;
pub mod boots;
pub mod builder;
pub mod control;
pub mod conversions;
pub mod converter;
pub mod cut;
pub mod device;
pub mod disk;
pub mod ends;
pub mod full;
pub mod hardship;
pub mod helper;
pub mod host;
pub mod keep;
pub mod lab;
pub mod look;
pub mod machine;
pub mod progress;
pub mod random;
pub mod recorder;
pub mod recording;
pub mod report;
pub mod right;
pub mod rows;
pub mod run;
pub mod selfcheck;
pub mod verbs;
pub mod view;
