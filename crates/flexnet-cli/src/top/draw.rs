// SPDX-License-Identifier: GPL-2.0-only
//! The screen. Colours only repeat what letters say.

use super::view::History;
use flexnet::abi::{CpuState, name_text};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

/// CPUs in a group, which are not torn apart at a line's end.
const GROUP: usize = 8;
/// Before the cores of a line: the number of the first.
const MARGIN: usize = 6;
/// Events that are shown at least, where there are so many.
const EVENTS: u16 = 6;

fn letter(state: CpuState) -> (&'static str, Color) {
    match state {
        CpuState::Absent => (" ", Color::Reset),
        CpuState::Idle => (".", Color::DarkGray),
        CpuState::Busy => ("g", Color::Reset),
        CpuState::Latency => ("l", Color::Yellow),
        CpuState::GrantedIdle => ("_", Color::Green),
        CpuState::Executor => ("E", Color::Green),
        CpuState::Lent => ("G", Color::Cyan),
    }
}

/// CPUs in a line of that width.
fn per_line(width: u16) -> usize {
    let room = usize::from(width).saturating_sub(MARGIN);
    (room / (GROUP + 1)).max(1) * GROUP
}

fn core_lines(history: &History, width: u16) -> u16 {
    history.now().cpus().len().div_ceil(per_line(width)).max(1) as u16
}

/// From this width on the events stand beside the applications.
const WIDE: u16 = 140;
/// What the applications' columns take, names of 15 letters included.
const APPS_WIDTH: u16 = 84;

/// Lines that show everything.
pub(super) fn height(history: &History, width: u16) -> u16 {
    let apps = history.apps().len().max(1) as u16 + 1;
    let events = (history.events().count() as u16).min(EVENTS) + 1;
    let below = match width >= WIDE {
        true => apps.max(events),
        false => apps + 1 + events,
    };
    3 + core_lines(history, width) + 1 + below
}

pub(super) fn draw(frame: &mut Frame<'_>, history: &History) {
    let area = frame.area();
    let [top, middle, below] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(core_lines(history, area.width) + 1),
        Constraint::Min(2),
    ])
    .areas(area);
    head(frame, top, history);
    cores(frame, middle, history);
    let [left, right] = match area.width >= WIDE {
        true => Layout::horizontal([Constraint::Length(APPS_WIDTH), Constraint::Min(40)])
            .spacing(2)
            .areas(below),
        false => {
            // Applications have what they need, but for a few events.
            let least = (history.events().count() as u16).min(EVENTS) + 1;
            let wanted = history.apps().len() as u16 + 2;
            let upper = wanted.min(below.height.saturating_sub(least));
            Layout::vertical([Constraint::Length(upper.max(2)), Constraint::Min(0)]).areas(below)
        }
    };
    apps(frame, left, history);
    events(frame, right, history);
}

fn events(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled("last events (s of uptime)", bold)];
    let event = |(at, what): &(f64, String)| Line::raw(format!("{at:>10.1}  {what}"));
    lines.extend(history.events().map(event));
    frame.render_widget(Paragraph::new(lines), area);
}

fn head(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let status = &history.now().status;
    let first = format!(
        "scx_flexnet {}, design {}, up {:.0} s{}",
        name_text(&status.version),
        name_text(&status.design),
        status.uptime_ns as f64 / 1e9,
        if history.lost().is_some() {
            ": GONE"
        } else {
            ""
        },
    );
    let second = format!(
        "granted {} of {} CPUs (at most {}), {:.2} over the interval",
        status.cores_granted,
        status.cpus,
        status.cores_max,
        history.rate(|status| status.granted_core_ns) / 1e9,
    );
    let third = match history.lost() {
        Some(why) => why.to_owned(),
        None => format!(
            "a second: {:.1} grants, {:.1} reclaims, {:.0} preemptions",
            history.rate(|status| status.grants),
            history.rate(|status| status.reclaims),
            history.rate(|status| status.preemptions),
        ),
    };
    let lines: Vec<Line<'_>> = [first, second, third].map(Line::from).into();
    frame.render_widget(Paragraph::new(lines), area);
}

fn cores(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let cpus = history.now().cpus();
    let count = per_line(area.width);
    let mut lines = Vec::new();
    for (line, states) in cpus.chunks(count).enumerate() {
        let mut spans = vec![Span::raw(format!("{:>4}  ", line * count))];
        for (at, state) in states.iter().enumerate() {
            let (letter, color) = letter(*state);
            spans.push(Span::styled(letter, Style::new().fg(color)));
            if at % GROUP == GROUP - 1 {
                spans.push(Span::raw(" "));
            }
        }
        lines.push(Line::from(spans));
    }
    let legend = "E executor  _ granted, idle  G lent  l latency  g general  . idle";
    lines.push(Line::styled(legend, Style::new().fg(Color::DarkGray)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn apps(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let head = [
        "    pid",
        "application",
        "class",
        "cores",
        "exec",
        "want",
        "CPUs",
        "  depth",
        "delay µs",
    ];
    let widths = [
        Constraint::Length(7),
        Constraint::Min(11),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(5),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    let apps = history.apps();
    if apps.is_empty() {
        frame.render_widget(Paragraph::new("no applications are connected"), area);
        return;
    }
    // The header, and how many applications have no line left.
    let room = usize::from(area.height.saturating_sub(1));
    let shown = match apps.len() <= room {
        true => apps.len(),
        false => room.saturating_sub(1),
    };
    let more = apps.len() - shown;
    let rows = apps.into_iter().take(shown).map(|app| {
        Row::new([
            app.pid
                .map_or_else(|| format!("{:>7}", app.kind), |pid| format!("{pid:>7}")),
            app.name,
            app.class.to_owned(),
            format!("{:>5}", app.cores),
            format!("{:>4}", app.executors),
            format!("{:>4}", app.wanted),
            format!("{:>5.2}", app.cpus),
            format!("{:>7}", app.depth),
            format!("{:>9.0}", app.delay_us),
        ])
    });
    let rest = (more > 0).then(|| Row::new([String::new(), format!("{more} more")]));
    let rows = rows.chain(rest);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(rows, widths).header(Row::new(head).style(bold));
    frame.render_widget(table, area);
}
