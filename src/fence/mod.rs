//! The fence: a version that cannot read the application data as it is now is not booted.
//!
//! ```text
//!  declarations of all versions      labels of the data, and what      consent, and
//!       │ survey, declaration        a change does to each dataset      who asks
//!       ▼                                      │                           │
//!  graph of each application ────────────▶  infer  ◀───────────────────────┘
//!       │                                      │
//!       ▼                                      ▼
//!      dot            verdict: no conversion needed · convert by this path ·
//!                     return to the data as it was · refused, and why ──▶ words
//! ```
//! It owns the form of a declaration, the search for a path, and the rule of what is allowed. It reads no disk but
//! through the [`Store`](crate::store::Store) that `ask`, `survey` and `labels` are handed, changes nothing (but `history`, which
//! remembers what was converted) and runs nothing; the same input gives the same answer in whatever order it comes. What can go wrong is input: a declaration that is not
//! understood to the last word declares nothing, and a version that has one in its own place is refused.
//!
//! [`ask::ask`] makes the question of a plan and what lies in the store, and asks it.

pub mod ask;
pub mod declaration;
pub mod dot;
pub mod graph;
pub mod history;
pub mod infer;
pub mod labels;
pub mod lint;
pub mod names;
pub mod question;
mod reader;
pub mod survey;
#[cfg(test)]
pub(crate) mod tests;
pub mod verdict;
pub mod words;
