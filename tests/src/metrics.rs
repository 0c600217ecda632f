//! Metrics in Prometheus' text format: a page in, sums out.

/// The sum of all samples of `name` that carry each of `labels`; `None` if there is none.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = page.lines().filter_map(|line| sample(line, name, labels));
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (set, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let set = format!(",{set},");
    let all = labels
        .iter()
        .all(|(label, value)| set.contains(&format!(",{label}=\"{value}\",")));
    all.then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total_more 5\nb 6.5\n";

    #[test]
    fn samples_add_up_over_the_labels_that_are_not_named() {
        assert_eq!(sum(PAGE, "a_total", &[("x", "1")]), Some(7.0));
        assert_eq!(sum(PAGE, "a_total", &[("x", "1"), ("y", "3")]), Some(4.0));
        assert_eq!(sum(PAGE, "b", &[]), Some(6.5));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        assert_eq!(sum(PAGE, "a_total", &[("x", "2")]), None);
        assert_eq!(sum(PAGE, "a", &[]), None);
    }
}
