//! The kernel command line as the kernel reads it, and backstay's parameters on it.
//!
//! ```text
//! /proc/cmdline ─ tokens() ─┬─ Boot::read()   root=, init=, console=, … as users know them
//!                           ├─ parse()        backstay.* → Request, or Refused with its remedy
//!                           └─ Line           a command line for kexec: backstay.* taken out, parameters added
//! ```
//!
//! Every part borrows from the line or is bounded: nothing here allocates, and nothing here can panic.
//! What can go wrong is a value: [`Refused`] for what a person typed, [`DoesNotFit`] for a line that
//! cannot be built.
//!
//! The parameters are one constant, [`TABLE`]. The parser, the manual page backstay-cmdline(7)
//! ([`man::page`]) and the table-driven tests are made from it, and from nothing else.
#![no_std]
#![forbid(unsafe_code)]

mod boot;
mod device;
mod line;
pub mod man;
mod parse;
#[cfg(feature = "premise")]
pub mod premise;
mod refused;
mod request;
mod table;
mod token;

pub use boot::{Boot, mount_option};
pub use device::Device;
pub use line::{DoesNotFit, LINE_MAX, Line};
pub use parse::parse;
pub use refused::{Offending, Refused};
pub use request::{Attempt, Fence, Level, Request, Tarball, Target, Verb};
pub use table::{Fit, Form, Kind, PREFIX, Parameter, TABLE, Value};
pub use token::{RawToken, RawTokens, Token, Tokens, is_space, raw_tokens, same_name, tokens};
