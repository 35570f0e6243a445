//! Ratios and their bars.

use std::process::ExitCode;

/// Whether a ratio should be high or low.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// What a benchmark came to: prints each ratio, and remembers whether all bars held.
#[derive(Debug)]
pub struct Ratios {
    suffix: &'static str,
    missed: usize,
}

impl Ratios {
    /// `suffix`, such as an engine, ends every name; it may be empty.
    pub const fn new(suffix: &'static str) -> Self {
        Self { suffix, missed: 0 }
    }

    /// Prints one.
    pub fn print(&mut self, name: &str, ratio: f64, bar: Bar) {
        let (held, said) = match bar {
            Bar::AtLeast(least) => (ratio >= least, format!("at least {least}")),
            Bar::AtMost(most) => (ratio <= most, format!("at most {most}")),
        };
        let between = if self.suffix.is_empty() { "" } else { "_" };
        let verdict = if held { "" } else { ": MISSED" };
        println!("ratio {name}{between}{} = {ratio:.2} ({said}){verdict}", self.suffix);
        self.missed += usize::from(!held);
    }

    /// Success if every bar held.
    pub fn code(&self) -> ExitCode {
        if self.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
