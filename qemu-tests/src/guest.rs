//! The systems on the test disks, as a person at their serial consoles meets them: they say that they
//! are up, take commands, restart and power off.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::serial::Serial;
use crate::vm::Vm;

/// A shut-down takes seconds; emulated, on a busy machine, with systemd, up to a minute.
const OFF: Duration = Duration::from_secs(180);

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// The lines on the console between the command and its end.
    pub output: String,
}

/// What the tiny system says of itself when it is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// The version of the system: the first line of /etc/appliance-release.
    pub system: String,
    /// The version of the configuration: the first line of /etc/appliance/version.
    pub config: String,
    /// The first line of /srv/data/content.
    pub data: String,
    /// The kernel that runs.
    pub kernel: String,
    /// Whether a module of that kernel can be loaded from this root.
    pub modules: bool,
    /// The subvolumes at /, /var/lib/backstay/config and /srv/data.
    pub mounts: String,
}

impl Up {
    const BEGINNING: &'static str = "TINY UP ";

    /// Reads the line; None for any other line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words = line.strip_prefix(Self::BEGINNING)?;
        let word = |key: &str| {
            let mut values = words.split(' ').filter_map(|word| word.split_once('='));
            values
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
        };
        Some(Self {
            system: word("system")?,
            config: word("config")?,
            data: word("data")?,
            kernel: word("kernel")?,
            modules: word("modules")? == "yes",
            mounts: word("mounts")?,
        })
    }
}

/// The tiny system that has just come up.
pub struct Tiny<'a> {
    prompt: TinyPrompt<'a>,
    up: Up,
}

impl<'a> Tiny<'a> {
    pub(crate) fn up(vm: &'a mut Vm) -> Result<Self> {
        vm.serial().story().step("the tiny system comes up");
        let wanted = "the line by which the tiny system says that it is up";
        let line = vm
            .serial()
            .expect_where(wanted, |line| Up::parse(line.trim_end()).is_some())?;
        let up = Up::parse(&line).context("read it")?;
        Ok(Self {
            prompt: TinyPrompt::new(vm),
            up,
        })
    }

    /// What it said when it came up.
    #[must_use]
    pub const fn said(&self) -> &Up {
        &self.up
    }

    /// Ends the story unless these versions run (system, config and content of the data), each from its
    /// live place, on a kernel whose modules the system has.
    ///
    /// # Errors
    /// When others do.
    pub fn expect(&self, system: &str, config: &str, data: &str) -> Result<()> {
        let up = &self.up;
        if (up.system.as_str(), up.config.as_str(), up.data.as_str()) != (system, config, data) {
            bail!("expected system={system} config={config} data={data}, but up came {up:?}");
        }
        if up.mounts != "@rootfs,@config,@data" {
            bail!(
                "the live datasets are not where they must be: {}",
                up.mounts
            );
        }
        if !up.modules {
            bail!(
                "system {system} runs on kernel {}, whose modules it does not have",
                up.kernel
            );
        }
        Ok(())
    }

    /// Types a command and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn run(&mut self, command: &str) -> Result<Answer> {
        self.prompt.run(command)
    }

    /// The same, and it must succeed.
    ///
    /// # Errors
    /// When it does not end, or with another status than 0.
    pub fn succeed(&mut self, command: &str) -> Result<String> {
        self.prompt.succeed(command)
    }

    /// Powers it off as its user would.
    ///
    /// # Errors
    /// When it stays on.
    pub fn power_off(self) -> Result<()> {
        self.prompt.power_off()
    }

    /// Restarts it as its user would; the next thing on the line is GRUB.
    ///
    /// # Errors
    /// When nobody takes the command.
    pub fn restart(self) -> Result<()> {
        self.prompt.restart()
    }
}

/// The tiny system's root prompt.
pub struct TinyPrompt<'a> {
    vm: &'a mut Vm,
}

impl<'a> TinyPrompt<'a> {
    const PROMPT: &'static str = "tiny# ";

    pub(crate) const fn new(vm: &'a mut Vm) -> Self {
        Self { vm }
    }

    /// Types a command and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn run(&mut self, command: &str) -> Result<Answer> {
        let serial = self.vm.serial();
        serial.expect_text(Self::PROMPT)?;
        type_command(serial, command, command)
    }

    /// The same, and it must succeed.
    ///
    /// # Errors
    /// When it does not end, or with another status than 0.
    pub fn succeed(&mut self, command: &str) -> Result<String> {
        must_succeed(command, self.run(command)?)
    }

    /// Powers it off as its user would.
    ///
    /// # Errors
    /// When it stays on.
    pub fn power_off(self) -> Result<()> {
        self.vm.serial().story().step("power off");
        self.vm.serial().expect_text(Self::PROMPT)?;
        self.vm.serial().send_line("poweroff")?;
        self.vm.wait_off(OFF)
    }

    /// Restarts it as its user would; the next thing on the line is GRUB.
    ///
    /// # Errors
    /// When nobody takes the command.
    pub fn restart(self) -> Result<()> {
        self.vm.serial().story().step("restart");
        self.vm.serial().expect_text(Self::PROMPT)?;
        self.vm.serial().send_line("reboot")
    }
}

/// The Debian system at its login prompt, then at a root shell.
pub struct Debian<'a> {
    vm: &'a mut Vm,
    logged_in: bool,
}

impl<'a> Debian<'a> {
    const PROMPT: &'static str = "debian# ";

    pub(crate) fn up(vm: &'a mut Vm) -> Result<Self> {
        vm.serial()
            .story()
            .step("Debian comes up to its login prompt");
        vm.serial().set_patience(Duration::from_secs(480));
        vm.serial().expect_text(" login: ")?;
        Ok(Self {
            vm,
            logged_in: false,
        })
    }

    pub(crate) fn resumed(vm: &'a mut Vm) -> Self {
        vm.serial().story().step("the hibernated Debian goes on");
        vm.serial().set_patience(Duration::from_secs(480));
        Self {
            vm,
            logged_in: true,
        }
    }

    /// Logs in as root, if that was not done, and waits for the prompt.
    fn prompt(&mut self) -> Result<()> {
        let serial = self.vm.serial();
        if !self.logged_in {
            serial.story().step("log in as root");
            serial.send_line("root")?;
            serial.expect_text("Password:")?;
            serial.send_line("backstay")?;
            serial.expect_text("# ")?;
            // A shell without line editing: what comes back is what was typed, and no more.
            serial.send_line("exec env PS1='debian''# ' TERM=dumb sh")?;
            self.logged_in = true;
        }
        serial.expect_text(Self::PROMPT)?;
        Ok(())
    }

    /// Types a command and waits for its end.
    ///
    /// # Errors
    /// When nobody can log in, or the command does not end.
    pub fn run(&mut self, command: &str) -> Result<Answer> {
        self.prompt()?;
        type_command(
            self.vm.serial(),
            command,
            &format!("{command}; echo \"[$?]\""),
        )
    }

    /// The same, and it must succeed.
    ///
    /// # Errors
    /// When it does not end, or with another status than 0.
    pub fn succeed(&mut self, command: &str) -> Result<String> {
        must_succeed(command, self.run(command)?)
    }

    /// Types a command that asks a question, answers it, and waits for its end. It must succeed.
    ///
    /// # Errors
    /// When it does not ask, does not end, or ends with another status than 0.
    pub fn answer(&mut self, command: &str, question: &str, answer: &str) -> Result<String> {
        self.prompt()?;
        let serial = self.vm.serial();
        type_line(serial, command, &format!("{command}; echo \"[$?]\""))?;
        serial.expect_text(question)?;
        serial.story().step(format!("answer: {answer}"));
        serial.send_line(answer)?;
        must_succeed(command, until_status(serial, command)?)
    }

    /// Powers it off as its user would.
    ///
    /// # Errors
    /// When it stays on.
    pub fn power_off(mut self) -> Result<()> {
        self.prompt()?;
        self.vm.serial().send_line("systemctl poweroff")?;
        self.vm.wait_off(OFF)
    }

    /// Hibernates it by `command`; the machine is off then. systemd's own wants `resume=` on the command line, where
    /// there is no UEFI.
    ///
    /// # Errors
    /// When nobody can log in, or the machine stays on.
    pub fn hibernate(mut self, command: &str) -> Result<()> {
        self.prompt()?;
        self.vm.serial().story().step("hibernate");
        self.vm.serial().send_line(command)?;
        self.vm.wait_off(OFF)
    }

    /// Restarts it as its user would; the next thing on the line is GRUB.
    ///
    /// # Errors
    /// When nobody can log in.
    pub fn restart(mut self) -> Result<()> {
        self.prompt()?;
        self.vm.serial().story().step("restart");
        self.vm.serial().send_line("systemctl reboot")
    }
}

/// Types `line` at a prompt, and takes what comes until the status of it in brackets.
fn type_command(serial: &mut Serial, command: &str, line: &str) -> Result<Answer> {
    type_line(serial, command, line)?;
    until_status(serial, command)
}

fn type_line(serial: &mut Serial, command: &str, line: &str) -> Result<()> {
    serial.story().step(format!("type: {command}"));
    serial.send_line(line)?;
    serial.expect_text(line)?;
    serial.expect_where("the end of the typed line", |rest| rest.trim().is_empty())?;
    Ok(())
}

fn until_status(serial: &mut Serial, command: &str) -> Result<Answer> {
    let mut output = String::new();
    let wanted = format!("the end of {command:?}");
    let last = serial.expect_where(&wanted, |line| {
        if status(line).is_none() {
            output.push_str(line.trim_end());
            output.push('\n');
        }
        status(line).is_some()
    })?;
    Ok(Answer {
        status: status(&last).context("read the status")?,
        output,
    })
}

fn status(line: &str) -> Option<i32> {
    line.trim()
        .strip_prefix('[')?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn must_succeed(command: &str, answer: Answer) -> Result<String> {
    if answer.status != 0 {
        bail!(
            "{command:?} ended with status {}: {}",
            answer.status,
            answer.output.trim()
        );
    }
    Ok(answer.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_tiny_system_is_read_word_by_word() {
        let line = "TINY UP system=2 config=1 data=a_b kernel=6.12 modules=yes mounts=@rootfs,@config,@data";
        let up = Up::parse(line).unwrap();
        assert_eq!(
            (up.system.as_str(), up.data.as_str(), up.modules),
            ("2", "a_b", true)
        );
        assert_eq!(up.mounts, "@rootfs,@config,@data");
        assert_eq!(Up::parse("TINY UP system=2"), None);
        assert_eq!(Up::parse("x TINY UP"), None);
    }

    #[test]
    fn a_status_is_a_number_in_brackets_alone_on_its_line() {
        for (line, number) in [
            ("[0]", Some(0)),
            ("[127]\n", Some(127)),
            ("[x]", None),
            ("a [0]", None),
        ] {
            assert_eq!(status(line), number);
        }
    }
}
