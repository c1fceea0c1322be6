//! Builds and looks at the disk images by hand: `cargo run -p qemu-tests --bin images -- COMMAND`.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use qemu_tests::image::{self, Fixture, Image, System};
use qemu_tests::toolbox::{self, Disk};

const USAGE: &str = "\
usage: images COMMAND
  layer1 tiny|debian   build the disk without backstay; print its path
  layer2 tiny|debian   build the disk with backstay; print its path
  fixture tiny|debian NAME
                       make a disk from layer 2 by the script on standard input, with Debian 12's kernel
                       at hand; print its path
  alter DISK           run the script on standard input with the store mounted on /mnt
  inspect DISK [PATH…] print the subvolumes and the files below the paths (. for all)
  toolbox [DISK…]      run the shell script on standard input in the toolbox guest; disks are writable";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let start = Instant::now();
    let result = match words.as_slice() {
        ["layer1", "tiny"] => path_of(image::tiny_layer1()),
        ["layer1", "debian"] => path_of(image::debian_layer1()),
        ["layer2", "tiny"] => path_of(image::tiny_layer2()),
        ["layer2", "debian"] => path_of(image::debian_layer2()),
        ["fixture", "tiny", name] => fixture(System::Tiny, name),
        ["fixture", "debian", name] => fixture(System::Debian, name),
        ["alter", disk] => {
            standard_input().and_then(|script| Ok(image::alter(disk.as_ref(), &script)?))
        }
        ["inspect", disk, paths @ ..] => {
            image::inspect(disk.as_ref(), image::Listing::Below(paths))
                .map(|tree| tree.to_string())
                .map_err(Into::into)
        }
        ["toolbox", disks @ ..] => run_script(disks),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(text) => {
            print!("{text}");
            eprintln!("images: {:.1} s", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("images: {error}");
            ExitCode::FAILURE
        }
    }
}

fn path_of(image: Result<Image, image::Error>) -> Result<String, Box<dyn std::error::Error>> {
    Ok(format!("{}\n", image?.path.display()))
}

fn fixture(system: System, name: &str) -> Result<String, Box<dyn std::error::Error>> {
    path_of(
        Fixture::new(system, name, standard_input()?)
            .with_other_kernel()
            .image(),
    )
}

fn run_script(disks: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let disks: Vec<Disk> = disks.iter().map(Disk::read_write).collect();
    Ok(toolbox::run(
        &disks,
        &standard_input()?,
        Duration::from_secs(300),
    )?)
}

fn standard_input() -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}
