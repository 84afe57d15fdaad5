// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet top`: what the scheduler does, live. Cores as they are granted and
//! lent, applications with what they wait for, and what changed.
//!
//! Everything comes from the control socket's status; what is shown is computed
//! from two of them (view.rs) and drawn (draw.rs) by the same code for a
//! terminal (plain.rs: one without colours) and for `--once`.

mod draw;
mod plain;
mod view;

use crate::status::fetch;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use ratatui::Terminal;
use ratatui::backend::{CrosstermBackend, TestBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use std::io::{IsTerminal, Stdout, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use view::{History, Sample};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Time between two samples (s, 0.05 to 3600)
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Print one screen as text and exit
    #[arg(long)]
    once: bool,
    /// With --once: print one line of JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// With --once: columns of the screen (40 to 1000) [default: $COLUMNS, else 80]
    #[arg(long, requires = "once", value_parser = clap::value_parser!(u16).range(40..=1000))]
    width: Option<u16>,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.05..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("must be 0.05 to 3600 s".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let first = Sample::new(fetch(&options.socket)?);
    let interval = Duration::from_secs_f64(options.interval);
    let mut history = History::new(first);
    if options.once {
        // Rates need two samples.
        std::thread::sleep(interval);
        history.add(Sample::new(fetch(&options.socket)?));
        return once(options, &history);
    }
    if !stdout().is_terminal() {
        bail!(
            "standard output is not a terminal: --once prints one screen, --once --json is for scripts"
        );
    }
    // The terminal it makes writes to standard output itself; ours may not.
    ratatui::try_init().context("cannot take over the terminal")?;
    let writer = plain::Plain::new(stdout(), plain::is_wanted());
    let outcome = Terminal::new(CrosstermBackend::new(writer))
        .context("cannot draw on the terminal")
        .and_then(|mut terminal| live(options, interval, &mut history, &mut terminal));
    ratatui::restore();
    outcome
}

fn once(options: &Options, history: &History) -> Result<()> {
    if options.json {
        println!("{}", history.json());
        return Ok(());
    }
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let width = options.width.or(columns).unwrap_or(80).max(40);
    for line in text(history, width)? {
        println!("{line}");
    }
    Ok(())
}

/// A screen as lines of text.
fn text(history: &History, width: u16) -> Result<Vec<String>> {
    let height = draw::height(history, width);
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw::draw(frame, history))?;
    let buffer = terminal.backend().buffer();
    let line = |row: u16| {
        let cells = (0..width).map(|column| buffer[(column, row)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    Ok((0..height).map(line).collect())
}

fn live(
    options: &Options,
    interval: Duration,
    history: &mut History,
    terminal: &mut Terminal<CrosstermBackend<plain::Plain<Stdout>>>,
) -> Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, history))?;
        let until = Instant::now() + interval;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !event::poll(left)? {
                break;
            }
            match event::read()? {
                Event::Key(key)
                    if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                        || (key.code == KeyCode::Char('c')
                            && key.modifiers.contains(KeyModifiers::CONTROL)) =>
                {
                    return Ok(());
                }
                Event::Resize(..) => {
                    terminal.draw(|frame| draw::draw(frame, history))?;
                }
                _ => {}
            }
        }
        match fetch(&options.socket) {
            Ok(status) => history.add(Sample::new(status)),
            Err(error) => history.lose(&format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests;
