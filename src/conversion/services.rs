//! Units that are stopped while their data is converted, and are not started again before the reboot.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a unit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// This machine has no such unit.
    NotThere,
    /// It does not run.
    Stopped,
    /// It runs, or is being started or stopped.
    Runs,
}

/// What starts and stops units. Errors are for people, without the unit's name.
pub trait Services {
    /// Whether there is such a thing here.
    fn there(&self) -> bool;
    /// What a unit is doing.
    fn state(&mut self, unit: &str) -> Result<State, String>;
    /// Stops it, and waits for that.
    fn stop(&mut self, unit: &str) -> Result<(), String>;
    /// Keeps it from being started until the reboot, by whomever. Says whether that holds.
    fn mask(&mut self, unit: &str) -> Result<bool, String>;
    /// Lets it be started.
    fn unmask(&mut self, unit: &str) -> Result<(), String>;
    /// Starts it.
    fn start(&mut self, unit: &str) -> Result<(), String>;
}

/// systemd, by its own program.
#[derive(Debug)]
pub struct Systemctl {
    program: PathBuf,
    /// There while systemd runs.
    sign: PathBuf,
}

impl Default for Systemctl {
    fn default() -> Systemctl {
        Systemctl {
            program: PathBuf::from("systemctl"),
            sign: PathBuf::from("/run/systemd/system"),
        }
    }
}

impl Systemctl {
    /// What it printed; the error has its last line.
    fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let shown = || format!("systemctl {}", arguments.join(" "));
        let output = Command::new(&self.program).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", shown()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default().to_owned();
        Err(format!("{} ({}): {last}", shown(), output.status))
    }

    fn property(&self, unit: &str, property: &str) -> Result<String, String> {
        let property = format!("--property={property}");
        self.call(&["show", &property, "--value", "--", unit])
    }
}

impl Services for Systemctl {
    fn there(&self) -> bool {
        Path::new(&self.sign).is_dir()
    }

    fn state(&mut self, unit: &str) -> Result<State, String> {
        if self.property(unit, "LoadState")? == "not-found" {
            return Ok(State::NotThere);
        }
        Ok(match self.property(unit, "ActiveState")?.as_str() {
            "inactive" | "failed" => State::Stopped,
            _ => State::Runs,
        })
    }

    fn stop(&mut self, unit: &str) -> Result<(), String> {
        self.call(&["stop", "--", unit]).map(drop)
    }

    /// What lies in /etc/systemd/system goes before what lies in /run.
    fn mask(&mut self, unit: &str) -> Result<bool, String> {
        self.call(&["mask", "--runtime", "--", unit])?;
        Ok(self.property(unit, "LoadState")? == "masked")
    }

    fn unmask(&mut self, unit: &str) -> Result<(), String> {
        self.call(&["unmask", "--runtime", "--", unit]).map(drop)
    }

    fn start(&mut self, unit: &str) -> Result<(), String> {
        self.call(&["start", "--", unit]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that writes down how it was called, and answers from the files beside it.
    fn systemctl(directory: &Path) -> Systemctl {
        let program = directory.join("systemctl");
        let script = "#!/bin/sh\nhere=$(dirname \"$0\")\nprintf '%s|' \"$@\" >>\"$here/called\"\necho >>\"$here/called\"\n\
                      case \"$2\" in\n--property=*) cat \"$here/${2#--property=}\" ;;\nesac\n\
                      case \"$*\" in *broken*) echo one >&2; echo no such thing >&2; exit 5 ;; esac\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Systemctl {
            program,
            sign: directory.join("run"),
        }
    }

    #[test]
    fn units_are_arguments_and_never_options() {
        let directory = tempfile::tempdir().unwrap();
        let answer = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        let mut services = systemctl(directory.path());
        assert!(!services.there());
        std::fs::create_dir(directory.path().join("run")).unwrap();
        assert!(services.there());
        answer("LoadState", "masked\n").unwrap();
        let unit = "--force.service";
        services.stop(unit).unwrap();
        assert!(services.mask(unit).unwrap());
        answer("LoadState", "loaded\n").unwrap();
        assert!(!services.mask(unit).unwrap(), "it is in /etc");
        services.unmask(unit).unwrap();
        services.start(unit).unwrap();
        let called = std::fs::read_to_string(directory.path().join("called")).unwrap();
        for line in [
            "stop|--|--force.service|",
            "mask|--runtime|--|--force.service|",
            "unmask|--runtime|--|--force.service|",
            "start|--|--force.service|",
        ] {
            assert!(called.lines().any(|it| it == line), "{line}: {called}");
        }
        let error = services.stop("broken").unwrap_err();
        assert!(error.ends_with("no such thing"), "{error}");
    }

    #[test]
    fn what_a_unit_does_is_told_apart_from_what_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let answer = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        let mut services = systemctl(directory.path());
        for (load, active, expected) in [
            ("not-found", "inactive", State::NotThere),
            ("loaded", "inactive", State::Stopped),
            ("loaded", "failed", State::Stopped),
            ("loaded", "active", State::Runs),
            ("loaded", "deactivating", State::Runs),
            ("masked", "active", State::Runs),
        ] {
            answer("LoadState", load).unwrap();
            answer("ActiveState", active).unwrap();
            assert_eq!(services.state("shop.service").unwrap(), expected);
        }
    }
}
