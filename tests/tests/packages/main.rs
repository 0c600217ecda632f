//! What is handed out, as its users get it: the image in a container with the DaemonSet's settings, the package in a
//! root file system of its own.
//!
//! In: `TRACER_IMAGE` and `TRACER_PACKAGES`, and root; without them every test is listed as ignored.

mod deb;
mod image;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use tests::suite::trials;
use tests::{environment, workload};

fn main() -> ExitCode {
    workload::run_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let root = environment::is_root();
    let has_image = root && environment::image_if_any().is_some();
    let has_packages = root && environment::packages_if_any().is_some();
    let trials =
        trials("image", image::facts(), has_image).chain(trials("deb", deb::facts(), has_packages));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
