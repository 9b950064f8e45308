//! Runs one stage a given number of times and nothing else, for `scripts/bench --counts` to count instructions.

mod stages;

use std::io::{self, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` passes `--bench` to every target.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    match &words[..] {
        [] => Ok(writeln!(
            io::stdout(),
            "{}\n{}",
            stages::STAGES.join("\n"),
            stages::SESSIONS.join("\n")
        )?),
        [stage, times] => {
            let mut bench = stages::Bench::new()?;
            for _ in 0..times.parse::<u32>()? {
                bench.run(stage)?;
            }
            Ok(())
        }
        _ => Err("counts [STAGE TIMES]".into()),
    }
}
