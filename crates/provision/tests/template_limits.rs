//! Templates that nobody can wait for, or that take the server with them: each is refused, in little time and
//! with little memory.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use larder_provision::{Compat, Data, Labels, render};

fn data() -> Data {
    let query = "mac=52-54-00-00-00-01";
    Data::new(None, &Labels::from_query(query, Compat::V0_11), query)
}

/// Renders on a thread with the stack that a server's threads have.
fn on_a_server_thread(source: String) -> Result<String, String> {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || render(&source, &data()).map_err(|error| error.to_string()))
        .unwrap()
        .join()
        .unwrap()
}

fn chain(condition: &str, count: usize) -> String {
    let more = format!("{{{{else if {condition}}}}}y").repeat(count);
    format!("{{{{if {condition}}}}}x{more}{{{{else}}}}z{{{{end}}}}")
}

#[test]
fn a_long_chain_of_else_if_does_not_overflow_the_stack() {
    for count in [600, 5_000, 50_000] {
        for condition in ["true", "false", ".a"] {
            let refused = on_a_server_thread(chain(condition, count)).unwrap_err();
            assert!(refused.contains("deep"), "{refused}");
            // With its place: the 500th of them, on the first line.
            assert!(refused.contains(" 1:"), "{refused}");
        }
    }
    assert_eq!(on_a_server_thread(chain("false", 150)).unwrap(), "z");
    assert_eq!(on_a_server_thread(chain("true", 450)).unwrap(), "x");
}

#[test]
fn chains_within_chains_do_not_overflow_it_either() {
    let open = format!("{{{{if false}}}}{}", "{{else if false}}".repeat(100));
    let source = format!("{}{}", open.repeat(90), "{{end}}".repeat(90));
    let refused = on_a_server_thread(source).unwrap_err();
    assert!(refused.contains("deep"), "{refused}");
    // What is allowed fits, brackets and calls of a definition at each level included.
    let brackets = format!("{}true{}", "(".repeat(60), ")".repeat(60));
    let body = format!(
        "{{{{if not {brackets}}}}}{}{{{{else}}}}{{{{template \"d\" .}}}}{{{{end}}}}",
        format!("{{{{else if not {brackets}}}}}").repeat(100)
    );
    let source = format!("{{{{define \"d\"}}}}{body}{{{{end}}}}{{{{template \"d\" .}}}}");
    let refused = on_a_server_thread(source).unwrap_err();
    assert!(refused.contains("recursion limit"), "{refused}");
}

/// `t0` calls `t1` twice, that one `t2`, …: 2^40 calls that print nothing.
fn doubling(call: &str) -> String {
    use std::fmt::Write as _;
    let mut source = String::new();
    for level in 0..40 {
        let next = call.replace("NEXT", &format!("t{}", level + 1));
        write!(source, "{{{{define \"t{level}\"}}}}{next}{next}{{{{end}}}}").unwrap();
    }
    source + "{{define \"t40\"}}{{end}}{{template \"t0\" .}}"
}

#[test]
fn what_has_no_end_in_sight_is_given_up() {
    for source in [
        doubling("{{template \"NEXT\" .}}"),
        doubling("{{if true}}{{template \"NEXT\" .}}{{end}}"),
        doubling("{{template \"NEXT\"}}{{$x := 1}}"),
        "{{range 4000000}}{{end}}".to_owned(),
        "{{range 3000}}{{range 3000}}{{$x := 1}}{{end}}{{end}}".to_owned(),
        "{{range 900000}}{{$x := printf \"%d\" 1}}{{end}}".to_owned(),
    ] {
        let refused = on_a_server_thread(source.clone()).unwrap_err();
        assert!(
            refused.contains("steps") || refused.contains("iteration"),
            "{source}: {refused}"
        );
    }
}

#[test]
fn values_do_not_grow_beyond_what_may_be_sent() {
    let doubled = |call: &str| {
        let double = format!("{{{{$x = {call}}}}}");
        format!(
            "{{{{$x := \"aaaaaaaaaaaaaaaa\"}}}}{}{{{{len $x}}}}",
            double.repeat(27)
        )
    };
    let long = format!(
        "{{{{$x := \"aaaaaaaaaaaaaaaa\"}}}}{}",
        "{{$x = print $x $x}}".repeat(19)
    );
    for source in [
        doubled("print $x $x"),
        doubled("println $x $x"),
        doubled("printf \"%s%s\" $x $x"),
        doubled("printf \"%[1]s%[1]s\" $x"),
        doubled("printf \"%x\" $x"),
        doubled("$x | printf \"%q%q\" $x"),
        doubled("html (print $x \"&\" $x)"),
        doubled("print (urlquery $x) (js $x)"),
        // Many of one long text at once.
        format!("{long}{{{{$y := print {}}}}}", "$x ".repeat(10_000)),
        format!(
            "{long}{{{{$y := printf \"{}\" $x}}}}",
            "%[1]s".repeat(10_000)
        ),
        format!(
            "{{{{$y := printf \"{}\"{}}}}}",
            "%65535d".repeat(1_000),
            " 1".repeat(1_000)
        ),
        format!(
            "{{{{$y := printf \"{}\" 65535 1}}}}",
            "%[1]*[2]d".repeat(10_000)
        ),
        // And reading it again and again.
        format!(
            "{long}{{{{$y := print $x \"\"}}}}{{{{range 900000}}}}{{{{if eq $x $y}}}}{{{{end}}}}{{{{end}}}}"
        ),
        format!("{long}{{{{range 900000}}}}{{{{$y := $x | slice $x 1 | len}}}}{{{{end}}}}"),
    ] {
        let refused = on_a_server_thread(source.clone()).unwrap_err();
        let start: String = source.chars().take(300).collect();
        assert!(
            refused.contains("steps") || refused.contains("bytes"),
            "{start}: {refused}"
        );
    }
}

#[test]
fn what_a_large_room_needs_is_within_the_budget() {
    let source = "{{range 10000}}{{$x := printf \"node%04d\" .}}{{if eq $x \"node0007\"}}seven{{else}}\
                  {{print $x \".example\" | html}} {{$x}} {{len $x}}{{end}}\n{{end}}";
    let text = on_a_server_thread(source.to_owned()).unwrap();
    assert_eq!(text.lines().count(), 10_000);
    assert!(text.contains("\nseven\nnode0008.example node0008 8\n"));
}
