//! The main job, shown: on a person's own terminal, or played by itself.

pub mod terminal;
