//! Virtual machines that try backstay on real disks.
