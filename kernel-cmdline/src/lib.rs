//! The kernel command line as the kernel reads it, and backstay's parameters on it.
#![no_std]
