//! Runs one stage a given number of times and nothing else, for `scripts/bench --counts` to count instructions.

mod stages;

use std::io::{self, Write};

/// `resolve` and `authorize` of a credential below an account, as a session by log-in is, and of one below a sign-on, the person
/// and the identity provider. The difference is what single sign-on adds to a request.
const SESSIONS: [&str; 2] = ["log_in", "sign_on"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` passes `--bench` to every target.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    match &words[..] {
        [] => {
            let all = [&stages::STAGES[..], &SESSIONS, &stages::PATHS].concat();
            writeln!(io::stdout(), "{}", all.join("\n"))?;
        }
        // What `scripts/bench --counts` asks for besides: a configuration with this many routes, and a search in it.
        [word, routes] if word == "load" => drop(stages::many::load(routes.parse()?)?),
        [word, routes, times] if word == "route" => {
            let router = stages::many::load(routes.parse()?)?.snapshot.router;
            for _ in 0..times.parse::<u32>()? {
                stages::find(&router)?;
            }
        }
        [stage, times] => {
            let mut bench = stages::Bench::with_tokens(stages::PATHS.contains(&stage.as_str()))?;
            for _ in 0..times.parse::<u32>()? {
                bench.run(stage)?;
            }
        }
        _ => return Err("counts [STAGE TIMES | load ROUTES | route ROUTES TIMES]".into()),
    }
    Ok(())
}
