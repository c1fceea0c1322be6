//! What goes wrong from outside: the power, the kernel that does not fit, the initramfs that is not
//! ours, a second disk that looks like the first; and what must not change when nothing goes wrong.
//!
//! The stories: interrupted-before-exchange-is-undone, interrupted-after-exchange-is-redone,
//! kernel-follows-snapshot, stock-initramfs-boots-live, two-disks-same-uuid-refused,
//! nested-subvolumes-survive, clean-boot-writes-nothing.

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[];
