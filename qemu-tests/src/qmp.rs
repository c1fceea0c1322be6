//! QEMU's own protocol: a JSON object a line, over a socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// QEMU makes its sockets when it starts, which may take so long on a busy machine.
const COMES: Duration = Duration::from_secs(20);

/// Connects to a socket of a QEMU that has just been started.
///
/// # Errors
/// When there is none within twenty seconds.
pub fn connect(path: &Path) -> Result<UnixStream> {
    let until = Instant::now() + COMES;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => {
                return Err(error).with_context(|| format!("connect to {}", path.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Whoever gives QEMU orders.
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects; each answer is waited for `patience` at most.
    ///
    /// # Errors
    /// When QEMU does not listen there.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self> {
        let stream = connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.line()?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("hear QEMU")?;
        serde_json::from_str(&line).with_context(|| format!("read {line:?}"))
    }

    /// Gives an order; what it returns.
    ///
    /// # Errors
    /// When QEMU does not carry it out.
    pub fn ask(&mut self, what: &str, arguments: Value) -> Result<Value> {
        writeln!(self.0.get_mut(), "{}", order(what, arguments)).context("ask QEMU")?;
        loop {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                bail!("QEMU answers {what} with {error}");
            }
            // Events come in between.
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }
}

fn order(what: &str, arguments: Value) -> Value {
    match arguments.as_object().is_some_and(|it| it.is_empty()) {
        true => json!({ "execute": what }),
        false => json!({ "execute": what, "arguments": arguments }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_order_is_answered_and_events_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let mut orders = BufReader::new(stream.try_clone().unwrap()).lines();
            let say = |line: &str| writeln!(&stream, "{line}").unwrap();
            let mut heard = Vec::new();
            say(r#"{"QMP": {}}"#);
            for answers in [
                &[r#"{"return": {}}"#][..],
                &[r#"{"event": "RESET"}"#, r#"{"return": 7}"#],
                &[r#"{"error": {"class": "GenericError"}}"#],
            ] {
                heard.push(orders.next().unwrap().unwrap());
                answers.iter().for_each(|line| say(line));
            }
            heard
        });
        let mut qmp = Qmp::connect(&path, Duration::from_secs(10)).unwrap();
        assert_eq!(qmp.ask("x", json!({"id": "line"})).unwrap(), json!(7));
        assert!(qmp.ask("y", json!({})).is_err());
        let heard = qemu.join().unwrap();
        assert!(heard[0].contains("qmp_capabilities"), "{heard:?}");
        let second: Value = serde_json::from_str(&heard[1]).unwrap();
        assert_eq!(second["arguments"]["id"], "line");
    }
}
