//! Wall time against round trip time, a small chart for each workload. The kernel's client was measured at 30 ms only;
//! its line is its round trips at each round trip time, which is kind to it, because it leaves its own work out.

use anyhow::Context as _;
use plotters::prelude::*;

use super::lines::{LINES, Line, Unit};
use super::report::Report;

const COLUMNS: usize = 4;
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 210;
const TITLE: u32 = 60;
const KERNEL: RGBColor = RGBColor(130, 130, 130);
const SERVERS: [RGBColor; 2] = [RGBColor(0, 92, 175), RGBColor(214, 96, 20)];

/// The chart as SVG.
pub fn draw(report: &Report) -> anyhow::Result<String> {
    let lines: Vec<&Line> =
        LINES.iter().filter(|line| line.unit == Unit::RoundTrips && has_curve(report, line)).collect();
    let rows = lines.len().div_ceil(COLUMNS).max(1);
    let mut svg = String::new();
    {
        let size = (WIDTH, TITLE + HEIGHT * rows as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (title, charts) = root.split_vertically(TITLE);
        legend(&title, report)?;
        for (area, line) in charts.split_evenly((rows, COLUMNS)).iter().zip(lines) {
            one(area, report, line).with_context(|| format!("the chart of {}", line.id))?;
        }
        root.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn curve(report: &Report, line: &Line, server: &str) -> Vec<(f64, f64)> {
    let figures = report.figures.iter().filter(|figure| figure.line == line.id && figure.server == server);
    let mut points: Vec<(f64, f64)> =
        figures.filter_map(|figure| Some((figure.rtt_ms as f64, figure.wall_ms?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// One point is no curve.
fn has_curve(report: &Report, line: &Line) -> bool {
    report.servers().iter().any(|server| curve(report, line, server).len() > 1)
}

fn legend(area: &Area<'_>, report: &Report) -> anyhow::Result<()> {
    let text = "wall time in ms against round trip time in ms";
    area.draw_text(text, &("sans-serif", 18).into_text_style(area), (12, 8))?;
    let mut at = 12;
    let servers = report.servers();
    let entries = servers.iter().zip(SERVERS.iter().cycle()).map(|(server, colour)| (format!("on {server}"), *colour));
    let kernel = ("Linux kernel's client: its round trips at 30 ms, times the round trip time".to_owned(), KERNEL);
    for (text, colour) in entries.chain([kernel]) {
        area.draw(&PathElement::new(vec![(at, 44), (at + 24, 44)], colour.stroke_width(3)))?;
        area.draw_text(&text, &("sans-serif", 14).into_text_style(area), (at + 30, 37))?;
        at += 60 + 8 * text.len() as i32;
    }
    Ok(())
}

fn one(area: &Area<'_>, report: &Report, line: &Line) -> anyhow::Result<()> {
    let servers = report.servers();
    let curves: Vec<_> = servers.iter().map(|server| curve(report, line, server)).collect();
    let points = curves.iter().flatten();
    let (right, top) = points.fold((1.0_f64, 1.0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let kernel = line.kernel.map(|kernel| kernel.value);
    // A kernel far above would press the curves to the ground; its line leaves the chart then.
    let top = kernel.map_or(top, |kernel| top.max((kernel * right).min(4.0 * top))) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(line.title.replace('`', ""), ("sans-serif", 13))
        .margin(8)
        .x_label_area_size(22)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().x_labels(5).y_labels(4).max_light_lines(0).label_style(("sans-serif", 11)).draw()?;
    if let Some(kernel) = kernel {
        let end = (top / kernel).min(right);
        chart.draw_series(LineSeries::new([(0.0, 0.0), (end, end * kernel)], KERNEL.stroke_width(2)))?;
    }
    for (points, colour) in curves.into_iter().zip(SERVERS.iter().cycle()) {
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::report::Figure;
    use super::super::report::tests::{figure, report};
    use super::*;

    #[test]
    fn a_chart_shows_each_workload_that_has_a_curve() {
        let at = |rtt_ms: u64, ms: f64| Figure { rtt_ms, wall_ms: Some(ms), ..figure("cat-cold", "mock", 1.0) };
        let found = report(vec![at(0, 3.0), at(30, 93.0), figure("mkdir", "mock", 1.0)]);
        let svg = draw(&found).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("cat 4 levels down") && svg.contains("on mock"));
        assert!(!svg.contains("mkdir"), "one point is no curve");
    }
}
