//! The names that the state of data is told by.
//!
//! They stand in attributes' names, in records of two words, and on command lines of package scripts: so they are short
//! and have no blanks, slashes or capitals of an alphabet that a terminal may obey.

use crate::admin::error::{Error, Result};
use crate::fence::names::{AppName, AppState};
use serde::Serialize;

/// An application: the name of its declaration, apps.d/NAME.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct App(AppName);

impl App {
    /// `[a-z0-9][a-z0-9+.-]{0,31}`.
    pub fn parse(text: &str) -> Result<App> {
        let name = AppName::new(text).map(App);
        name.ok_or_else(|| Error::AppName(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As the fence has it.
    pub fn name(&self) -> &AppName {
        &self.0
    }
}

impl From<AppName> for App {
    fn from(name: AppName) -> App {
        App(name)
    }
}

impl core::fmt::Display for App {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state that an application's data is in, such as `15` or `2024.3+full`. It says nothing by itself: versions declare
/// which ones they read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct State(AppState);

impl State {
    /// `[A-Za-z0-9._+~-]{1,48}`, or `unknown`.
    pub fn parse(text: &str) -> Result<State> {
        let state = AppState::new(text).map(State);
        state.ok_or_else(|| Error::StateName(text.to_owned()))
    }

    /// One that data can be recorded in, which `unknown` is not.
    pub fn parse_known(text: &str) -> Result<State> {
        match State::parse(text)? {
            state if state.is_unknown() => Err(Error::StateUnknown),
            state => Ok(state),
        }
    }

    /// That none is recorded.
    pub fn unknown() -> State {
        State(AppState::unknown())
    }

    /// Whether none is recorded.
    pub fn is_unknown(&self) -> bool {
        self.0 == AppState::unknown()
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As the fence has it.
    pub fn state(&self) -> &AppState {
        &self.0
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::names::{APP_MAX as MAX_APP, STATE_MAX as MAX_STATE};
    use crate::store::label;

    #[test]
    fn names_of_applications_are_short_and_small() {
        let longest = "x".repeat(MAX_APP);
        for name in ["shop", "7zip", "libstdc++6.so-x", longest.as_str()] {
            assert_eq!(App::parse(name).unwrap().as_str(), name);
        }
        assert!(label::is_name(&format!("converting.{longest}")));
        let longer = format!("{longest}x");
        for name in [
            "", "Shop", ".shop", "-x", "a/b", "a b", "a_b", "a\nb", "ä", &longer,
        ] {
            let text = App::parse(name).unwrap_err().to_string();
            assert!(text.contains("32") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn states_are_one_word() {
        let longest = "9".repeat(MAX_STATE);
        for state in [
            "1",
            "15",
            "2024.3+full~rc1-A_b",
            "unknown",
            longest.as_str(),
        ] {
            assert_eq!(State::parse(state).unwrap().as_str(), state);
        }
        let longer = format!("{longest}9");
        for state in ["", "1 2", "a/b", "1\n", "ü", &longer] {
            let text = State::parse(state).unwrap_err().to_string();
            assert!(text.contains("48") && !text.contains('\n'), "{text}");
        }
        assert!(matches!(
            State::parse_known("unknown"),
            Err(Error::StateUnknown)
        ));
        State::parse_known("1").unwrap();
    }
}
