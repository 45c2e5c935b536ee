//! Go's `text/template` as matchbox users know it: one row per rule of Go's documentation, and the
//! differences that were measured between engines. `Err` rows are what a matchbox answers with 404.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and tables are long"
)]

use larder_provision::{Compat, Data, Group, Labels, render};

/// Data that every row sees.
const GROUP: &str = r#"{
    "id": "g", "profile": "p",
    "selector": {"Region": "Europe", "mac": "52:da:00:89:d8:10"},
    "metadata": {
        "name": "node1", "empty": "", "text_false": "false", "yes": true, "no": false,
        "zero": 0, "three": 3, "half": 0.5, "million": 1000000, "big": 1234567, "huge": 1e21,
        "small": 0.00001, "negative": -2.5, "null": null,
        "list": ["a", "b", "c"], "none": [], "numbers": [1, 2, 3],
        "map": {"z": 1, "a": "x", "deep": {"er": "down"}}, "nothing": {},
        "region": "from metadata", "markup": "<a href=\"x\">&'", "path": "a b/ä?&=c",
        "request": "overridden", "quote": "say \"hi\"\n"
    }
}"#;

const FAILS: Result<&str, ()> = Err(());

fn check(rows: &[(&str, Result<&str, ()>)]) {
    let group: Group = serde_json::from_str(GROUP).unwrap();
    let query = "mac=52-DA-00-89-D8-10&os=installed&uuid=u1";
    let labels = Labels::from_query(query, Compat::V0_11);
    let data = Data::new(Some(&group), &labels, query);
    let mut wrong = Vec::new();
    for (source, wanted) in rows {
        let got = render(source, &data);
        let same = match (&got, wanted) {
            (Ok(got), Ok(wanted)) => got == wanted,
            (Err(_), Err(())) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("{source}\n  wanted {wanted:?}\n  got    {got:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn values_print_as_go_prints_them() {
    check(&[
        ("plain", Ok("plain")),
        ("", Ok("")),
        ("{{.name}}", Ok("node1")),
        ("{{ .name }}", Ok("node1")),
        ("{{.yes}} {{.no}}", Ok("true false")),
        ("{{.zero}} {{.three}}", Ok("0 3")),
        ("{{.half}}", Ok("0.5")),
        ("{{.million}}", Ok("1e+06")),
        ("{{.big}}", Ok("1.234567e+06")),
        ("{{.huge}}", Ok("1e+21")),
        ("{{.small}}", Ok("1e-05")),
        ("{{.negative}}", Ok("-2.5")),
        ("{{.null}}", Ok("<no value>")),
        ("{{.list}}", Ok("[a b c]")),
        ("{{.none}}", Ok("[]")),
        ("{{.numbers}}", Ok("[1 2 3]")),
        ("{{.map}}", Ok("map[a:x deep:map[er:down] z:1]")),
        ("{{.nothing}}", Ok("map[]")),
        ("{{.map.deep.er}}", Ok("down")),
        ("{{.markup}}", Ok("<a href=\"x\">&'")),
        ("{{\"q\\\"uote\\n\"}}", Ok("q\"uote\n")),
        ("{{`raw {{ \\n`}}", Ok("raw {{ \\n")),
        ("{{'a'}} {{0x1F}} {{1_000}} {{1e3}}", Ok("97 31 1000 1000")),
        ("{{true}} {{3.0}}", Ok("true 3")),
    ]);
}

#[test]
fn missing_keys_are_errors_and_index_guards_against_them() {
    check(&[
        ("{{.missing}}", FAILS),
        ("{{.map.missing}}", FAILS),
        ("{{.missing.deeper}}", FAILS),
        ("{{if .missing}}x{{end}}", FAILS),
        ("{{range .missing}}x{{end}}", FAILS),
        ("{{with .missing}}x{{end}}", FAILS),
        ("{{.name.field}}", FAILS),
        ("{{.three.field}}", FAILS),
        ("{{.null.field}}", FAILS),
        ("{{.list.field}}", FAILS),
        ("{{index . \"missing\"}}", Ok("<no value>")),
        ("{{if index . \"missing\"}}x{{else}}y{{end}}", Ok("y")),
        ("{{if index . \"name\"}}{{.name}}{{end}}", Ok("node1")),
        ("{{index . \"map\" \"a\"}}", Ok("x")),
        ("{{index .list 1}}", Ok("b")),
        ("{{index .list 3}}", FAILS),
        ("{{index .list -1}}", FAILS),
        ("{{index .list \"a\"}}", FAILS),
        ("{{index .missing \"a\"}}", FAILS),
        ("{{index .map 1}}", FAILS),
        ("{{index .null \"a\"}}", FAILS),
        ("{{index .map}}", Ok("map[a:x deep:map[er:down] z:1]")),
        ("{{index .three 0}}", FAILS),
    ]);
}

#[test]
fn the_request_and_the_selectors_are_data() {
    check(&[
        (
            "{{.request.raw_query}}",
            Ok("mac=52-DA-00-89-D8-10&os=installed&uuid=u1"),
        ),
        ("{{.request.query.mac}}", Ok("52:da:00:89:d8:10")),
        ("{{.request.query.os}}", Ok("installed")),
        ("{{.request.query.absent}}", FAILS),
        // The labels are a map of strings: index gives its zero value, not "no value".
        ("[{{index .request.query \"absent\"}}]", Ok("[]")),
        (
            "{{if index .request.query \"absent\"}}x{{else}}y{{end}}",
            Ok("y"),
        ),
        ("{{.region}}", Ok("Europe")),
        ("{{.Region}}", FAILS),
        ("{{.mac}}", Ok("52:da:00:89:d8:10")),
        (
            "{{range $k, $v := .request.query}}{{$k}}={{$v}};{{end}}",
            Ok("mac=52:da:00:89:d8:10;os=installed;uuid=u1;"),
        ),
    ]);
}

#[test]
fn conditions_follow_go_truth() {
    check(&[
        ("{{if .yes}}a{{end}}", Ok("a")),
        ("{{if .no}}a{{end}}", Ok("")),
        ("{{if .empty}}a{{else}}b{{end}}", Ok("b")),
        ("{{if .text_false}}a{{else}}b{{end}}", Ok("a")),
        ("{{if .zero}}a{{else}}b{{end}}", Ok("b")),
        ("{{if .half}}a{{else}}b{{end}}", Ok("a")),
        ("{{if .null}}a{{else}}b{{end}}", Ok("b")),
        ("{{if .none}}a{{else}}b{{end}}", Ok("b")),
        ("{{if .nothing}}a{{else}}b{{end}}", Ok("b")),
        ("{{if .no}}a{{else if .yes}}b{{else}}c{{end}}", Ok("b")),
        ("{{if and .yes .no}}a{{else}}b{{end}}", Ok("b")),
        ("{{and .name .empty .missing}}", Ok("")),
        ("{{or .empty .name .missing}}", Ok("node1")),
        ("{{not .yes}} {{not .empty}}", Ok("false true")),
        ("{{if not (index . \"x\")}}a{{end}}", Ok("a")),
        ("{{with .name}}[{{.}}]{{else}}none{{end}}", Ok("[node1]")),
        ("{{with .empty}}[{{.}}]{{else}}none{{end}}", Ok("none")),
        (
            "{{with $x := .name}}{{$x}}{{$.yes}}{{end}}",
            Ok("node1true"),
        ),
    ]);
}

#[test]
fn comparisons_do_not_mix_kinds() {
    check(&[
        ("{{if eq .name \"node1\"}}a{{end}}", Ok("a")),
        ("{{if eq .three 3.0}}a{{end}}", Ok("a")),
        // A JSON number is a float64, the literal an int.
        ("{{if eq .three 3}}a{{end}}", FAILS),
        ("{{if eq .name 3}}a{{end}}", FAILS),
        ("{{if lt .three 4}}a{{end}}", FAILS),
        ("{{lt .three 4.5}} {{gt .three 4.5}}", Ok("true false")),
        ("{{le 2 2}} {{ge 1 2}} {{ne 1 2}}", Ok("true false true")),
        ("{{eq .name \"x\" \"y\" \"node1\"}}", Ok("true")),
        ("{{eq .yes true}} {{ne .no true}}", Ok("true true")),
        ("{{lt \"a\" \"b\"}}", Ok("true")),
        ("{{eq .list .list}}", FAILS),
        ("{{eq .name}}", FAILS),
        ("{{lt .yes .no}}", FAILS),
    ]);
}

#[test]
fn ranges_walk_lists_in_order_and_maps_by_key() {
    check(&[
        ("{{range .list}}{{.}},{{end}}", Ok("a,b,c,")),
        ("{{range $i, $e := .list}}{{$i}}{{$e}}{{end}}", Ok("0a1b2c")),
        (
            "{{range $e := .list}}{{$e}}{{$.name}}{{end}}",
            Ok("anode1bnode1cnode1"),
        ),
        ("{{range .none}}x{{else}}empty{{end}}", Ok("empty")),
        ("{{range $k, $v := .map}}{{$k}};{{end}}", Ok("a;deep;z;")),
        (
            "{{range .list}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}",
            Ok("ac"),
        ),
        (
            "{{range .list}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}",
            Ok("a"),
        ),
        ("{{range .name}}x{{end}}", FAILS),
        ("{{range .three}}x{{end}}", FAILS),
        ("{{range .null}}x{{else}}e{{end}}", Ok("e")),
    ]);
}

#[test]
fn variables_pipelines_and_functions() {
    check(&[
        ("{{$x := .name}}{{$x}}", Ok("node1")),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", Ok("2")),
        ("{{$x := 1}}{{if .yes}}{{$x = 2}}{{end}}{{$x}}", Ok("2")),
        ("{{$x := 1}}{{if .yes}}{{$x := 2}}{{end}}{{$x}}", Ok("1")),
        ("{{$undefined}}", FAILS),
        ("{{.name | printf \"%s-%s\" \"a\"}}", Ok("a-node1")),
        (
            "{{printf \"%5s|%-5s|%05d\" \"a\" \"b\" 42}}",
            Ok("    a|b    |00042"),
        ),
        (
            "{{printf \"%q %v %t\" .name .half .yes}}",
            Ok("\"node1\" 0.5 true"),
        ),
        (
            "{{printf \"%v|%v\" .million .numbers}}",
            Ok("1e+06|[1 2 3]"),
        ),
        (
            "{{.million | printf \"%v\"}} {{.million | printf \"%.1f\"}}",
            Ok("1e+06 1000000.0"),
        ),
        (
            "{{.million | urlquery}} {{print .million .half}}",
            Ok("1e%2B06 1e+06 0.5"),
        ),
        ("{{if .no}}{{nosuch}}{{end}}", FAILS),
        (
            "{{$m := .map}}{{$m.a}} {{(index . \"map\").deep.er}}",
            Ok("x down"),
        ),
        ("{{printf \"%.0f %.2f\" .big .half}}", Ok("1234567 0.50")),
        ("{{printf \"%s\"}}", Ok("%!s(MISSING)")),
        ("{{printf \"a\" 1}}", Ok("a%!(EXTRA int=1)")),
        ("{{printf \"%x %X %o %b\" 255 255 8 5}}", Ok("ff FF 10 101")),
        ("{{print 1 2 \"a\" \"b\" 3}}", Ok("1 2ab3")),
        ("{{println .name 1}}", Ok("node1 1\n")),
        ("{{len .list}} {{len .name}} {{len .map}}", Ok("3 5 3")),
        ("{{len .three}}", FAILS),
        ("{{slice .name 1 3}} {{slice .list 1}}", Ok("od [b c]")),
        ("{{slice .name 9}}", FAILS),
        (
            "{{html .markup}}",
            Ok("&lt;a href=&#34;x&#34;&gt;&amp;&#39;"),
        ),
        ("{{.path | urlquery}}", Ok("a+b%2F%C3%A4%3F%26%3Dc")),
        ("{{js .quote}}", Ok("say \\\"hi\\\"\\u000A")),
        ("{{nosuch .name}}", FAILS),
        ("{{.name | nosuch}}", FAILS),
        ("{{call .name}}", FAILS),
        (
            "{{(index .list 0)}}{{(len .list) | printf \"%d\"}}",
            Ok("a3"),
        ),
    ]);
}

#[test]
fn blanks_comments_and_definitions() {
    check(&[
        ("a {{- .name}} b", Ok("anode1 b")),
        ("a {{.name -}} \n b", Ok("a node1b")),
        ("a {{- /* c */ -}} b", Ok("ab")),
        ("a{{/* {{.missing}} */}}b", Ok("ab")),
        ("# {{.missing}}", FAILS),
        ("{{`{{`}}.name}}", Ok("{{.name}}")),
        (
            "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .name}}",
            Ok("<node1>"),
        ),
        ("{{define \"t\"}}x{{end}}{{template \"t\"}}", Ok("x")),
        ("{{template \"none\"}}", FAILS),
        ("{{block \"b\" .name}}[{{.}}]{{end}}", Ok("[node1]")),
        (
            "{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}",
            FAILS,
        ),
        (
            "{{range 100000000}}{{range 100000000}}{{end}}{{end}}",
            FAILS,
        ),
        ("{{if .yes}}", FAILS),
        ("{{end}}", FAILS),
        ("{{if .yes}}a{{end}}{{end}}b", FAILS),
        ("{{range .list}}{{if .}}{{end}}", FAILS),
        ("{{else}}", FAILS),
        ("{{.name", FAILS),
        ("{{}}", FAILS),
        ("{{.name}} }}", Ok("node1 }}")),
        ("line\r\n{{.name}}\r\n", Ok("line\r\nnode1\r\n")),
        ("{{.name\n}}", Ok("node1")),
    ]);
}

#[test]
fn a_template_called_without_an_argument_has_no_data() {
    check(&[
        ("{{define \"t\"}}{{.name}}{{end}}{{template \"t\"}}", FAILS),
        ("{{define \"t\"}}{{$.name}}{{end}}{{template \"t\"}}", FAILS),
        (
            "{{define \"t\"}}[{{.}}]{{end}}{{template \"t\"}}",
            Ok("[<no value>]"),
        ),
        (
            "{{with .name}}{{template \"t\"}}{{end}}{{define \"t\"}}{{if .}}a{{else}}b{{end}}{{end}}",
            Ok("b"),
        ),
    ]);
}

#[test]
fn printf_takes_numbers_as_what_they_are() {
    check(&[
        ("{{printf \"%d\" .three}}", Ok("%!d(float64=3)")),
        ("{{printf \"%03d\" .three}}", Ok("%!d(float64=003)")),
        ("{{printf \"%.1f\" (len .list)}}", Ok("%!f(int=3)")),
        ("{{printf \"%s\" .three}}", Ok("%!s(float64=3)")),
        ("{{printf \"%x\" .three}}", Ok("0x1.8p+01")),
        (
            "{{printf \"%6.2f|%-6.1f|%06.1f\" .half .half .negative}}",
            Ok("  0.50|0.5   |-002.5"),
        ),
        (
            "{{printf \"%+.1e %g %G\" .big .big .small}}",
            Ok("+1.2e+06 1.234567e+06 1E-05"),
        ),
        (
            "{{printf \"%+d % d %x %#x %#o %08b\" 3 3 255 255 8 5}}",
            Ok("+3  3 ff 0xff 010 00000101"),
        ),
        (
            "{{printf \"%c %q %U %#U\" 65 65 65 65}}",
            Ok("A 'A' U+0041 U+0041 'A'"),
        ),
        (
            "{{printf \"%5d|%-5d|%.3d|%5.3d\" 7 7 7 7}}",
            Ok("    7|7    |007|  007"),
        ),
        (
            "{{printf \"%d\" -3}} {{printf \"%05d\" -3}}",
            Ok("-3 -0003"),
        ),
        ("{{$f := \"%v\"}}{{printf $f .million}}", Ok("1e+06")),
        ("{{printf \"%[1]v %[1]v\" .million}}", Ok("1e+06 1e+06")),
        // `+` and `#` mean another thing with %v than with other verbs.
        ("{{printf \"%+v\" 3}} {{printf \"%+v\" .three}}", Ok("3 3")),
    ]);
}

#[test]
fn printf_goes_through_lists_and_maps() {
    check(&[
        ("{{printf \"%s\" .list}}", Ok("[a b c]")),
        ("{{printf \"%q\" .list}}", Ok("[\"a\" \"b\" \"c\"]")),
        ("{{printf \"%3s\" .list}}", Ok("[  a   b   c]")),
        ("{{printf \"%.1f\" .numbers}}", Ok("[1.0 2.0 3.0]")),
        (
            "{{printf \"%d\" .list}}",
            Ok("[%!d(string=a) %!d(string=b) %!d(string=c)]"),
        ),
        ("{{printf \"%q\" .map.deep}}", Ok("map[\"er\":\"down\"]")),
        (
            "{{printf \"%d\" .none}}{{printf \"%v\" .nothing}}",
            Ok("[]map[]"),
        ),
        (
            "{{printf \"%T %T %T %T\" .name .three .yes 3}}",
            Ok("string float64 bool int"),
        ),
        (
            "{{printf \"%T %T %T\" .list .map .null}}",
            Ok("[]interface {} map[string]interface {} <nil>"),
        ),
        (
            "{{printf \"%#v %#v %#v\" .list .map.deep .three}}",
            Ok("[]interface {}{\"a\", \"b\", \"c\"} map[string]interface {}{\"er\":\"down\"} 3"),
        ),
        (
            "{{printf \"%v %d %s\" .null .null .null}}",
            Ok("<nil> %!d(<nil>) %!s(<nil>)"),
        ),
    ]);
}

#[test]
fn printf_tells_of_what_does_not_fit() {
    check(&[
        ("{{printf \"%s %s\" .name}}", Ok("node1 %!s(MISSING)")),
        (
            "{{printf \"x\" .name 3 .null}}",
            Ok("x%!(EXTRA string=node1, int=3, <nil>)"),
        ),
        (
            "{{printf \"%\"}} {{printf \"50%\"}}",
            Ok("%!(NOVERB) 50%!(NOVERB)"),
        ),
        ("{{printf \"%%|%5%\"}}", Ok("%|%")),
        ("{{printf \"%z\" 3}}", Ok("%!z(int=3)")),
        ("{{printf \"%!\" 3}}", Ok("%!!(int=3)")),
        ("{{printf \"%*d|%-*d\" 4 7 4 7}}", Ok("   7|7   ")),
        ("{{printf \"%*d\" -4 7}}|", Ok("7   |")),
        ("{{printf \"%.*f\" 2 .half}}", Ok("0.50")),
        ("{{printf \"%*d\" .name 7}}", Ok("%!(BADWIDTH)7")),
        ("{{printf \"%.*d\" .name 7}}", Ok("%!(BADPREC)7")),
        ("{{printf \"%.*d\" -1 7}}", Ok("%!(BADPREC)7")),
        ("{{printf \"%[2]d %[1]d\" 1 2}}", Ok("2 1")),
        ("{{printf \"%[2]d\" 1 2 3}}", Ok("2")),
        ("{{printf \"%[2]*[1]d\" 7 4}}", Ok("   7")),
        ("{{printf \"%[3]d\" 1}}", Ok("%!d(BADINDEX)")),
        ("{{printf \"%[x]d\" 1}}", Ok("%!d(BADINDEX)")),
        ("{{printf \"%[1]2d\" 1}}", Ok("%!d(BADINDEX)")),
        ("{{printf \"%[\" 1}}", Ok("%!(NOVERB)")),
        (
            "{{printf \"%20000000d\" 1}}",
            Ok("%!(NOVERB)%!(EXTRA int=1)"),
        ),
        ("{{printf .three}}", FAILS),
        ("{{printf}}", FAILS),
        (
            "{{printf \"%.2s|%5.1s|%x|% X|%#x\" .name .name \"ab\" \"ab\" \"ab\"}}",
            Ok("no|    n|6162|61 62|0x6162"),
        ),
        (
            "{{printf \"%q %+q %#q\" \"ä\\n\" \"ä\" \"ä\"}}",
            Ok("\"ä\\n\" \"\\u00e4\" `ä`"),
        ),
        (
            "{{printf \"%t %5t %s\" .yes .no .yes}}",
            Ok("true false %!s(bool=true)"),
        ),
    ]);
}

#[test]
fn what_go_refuses_while_it_parses_is_refused() {
    check(&[
        ("{{$x = 1}}{{$x}}", FAILS),
        ("{{if .yes}}{{$x = 1}}{{end}}", FAILS),
        // An assignment without a declaration is wrong only where it is executed.
        ("{{if .no}}{{$x = 1}}{{$x}}{{end}}a", Ok("a")),
        ("{{if .no}}{{$x = 1}}{{end}}{{$x}}", FAILS),
        ("{{if .no}}{{$nosuch}}{{end}}", FAILS),
        ("{{if .no}}{{print ($nosuch)}}{{end}}", FAILS),
        ("{{if .no}}{{nosuch.field}}{{end}}", FAILS),
        (
            "{{if .yes}}{{$x := 1}}{{end}}{{if .no}}{{$x}}{{end}}",
            FAILS,
        ),
        (
            "{{if .no}}{{$x := 1}}{{else}}{{if .no}}{{$x}}{{end}}b{{end}}",
            Ok("b"),
        ),
        ("{{if .no}}{{$x := 1}}{{else}}{{$x = 2}}{{end}}", FAILS),
        ("{{with $x := .no}}{{else}}{{$x}}{{end}}", Ok("false")),
        ("{{with $x := .name}}{{end}}{{if .no}}{{$x}}{{end}}", FAILS),
        (
            "{{$x := 1}}{{define \"t\"}}{{if .no}}{{$x}}{{end}}{{end}}",
            FAILS,
        ),
        ("{{$x := 1}}{{block \"b\" .}}{{$x}}{{end}}", FAILS),
        (
            "{{range $i, $e := .list}}{{$i}}{{$e}}{{end}}{{if .no}}{{$e}}{{end}}",
            FAILS,
        ),
        ("{{$x := 0}}{{range $x = .list}}{{end}}{{$x}}", Ok("c")),
        ("{{range $x = .list}}{{end}}", FAILS),
        ("{{if .no}}{{break}}{{end}}", FAILS),
        ("{{if .no}}{{continue}}{{end}}", FAILS),
        (
            "{{range .none}}{{else}}{{if $.no}}{{break}}{{end}}{{end}}",
            FAILS,
        ),
        (
            "{{range .list}}{{block \"b\" .}}{{if false}}{{break}}{{end}}{{end}}{{end}}",
            FAILS,
        ),
        ("{{if .no}}{{\"a\" | \"b\"}}{{end}}", FAILS),
        ("{{if .no}}{{print (1 | 2)}}{{end}}", FAILS),
        ("{{range .list}}{{else if .x}}{{end}}", FAILS),
        ("{{if .no}}{{else with .yes}}a{{end}}", FAILS),
        ("{{with .no}}{{else if .yes}}a{{end}}", FAILS),
        ("{{with .no}}{{else with .yes}}{{.}}{{end}}", Ok("true")),
        ("{{if .no}}{{define \"t\"}}{{end}}{{end}}", FAILS),
    ]);
}

#[test]
fn of_definitions_with_one_name_the_first_with_something_in_it_counts() {
    check(&[
        (
            "{{define \"t\"}}a{{end}}{{define \"t\"}}b{{end}}{{template \"t\"}}",
            FAILS,
        ),
        (
            "{{define \"t\"}}a{{end}}{{define \"t\"}} {{end}}{{template \"t\"}}",
            Ok("a"),
        ),
        (
            "{{define \"t\"}} {{end}}{{define \"t\"}}b{{end}}{{template \"t\"}}",
            Ok("b"),
        ),
        (
            "{{define \"t\"}} {{end}}{{define \"t\"}}\n{{end}}[{{template \"t\"}}]",
            Ok("[\n]"),
        ),
        ("{{block \"t\" .}}a{{end}}{{define \"t\"}}b{{end}}", FAILS),
        ("{{define \"\"}}a{{end}}b", FAILS),
        ("{{define \"\"}}a{{end}}", Ok("a")),
    ]);
}

#[test]
fn escapers_take_any_number_of_values() {
    check(&[
        ("{{html \"<\" 1 2 \"&\"}}", Ok("&lt;1 2&amp;")),
        ("{{urlquery \"a b\" \"&\"}}", Ok("a+b%26")),
        ("{{js \"'\" .three}}", Ok("\\'3")),
        ("[{{html}}{{urlquery}}{{js}}]", Ok("[]")),
        (
            "{{html .null}} {{.null | urlquery}}",
            Ok("&lt;no value&gt; %3Cno+value%3E"),
        ),
        ("{{html .list}} {{html .million}}", Ok("[a b c] 1e+06")),
        ("{{print .null 1}}", Ok("<nil> 1")),
    ]);
}

#[test]
fn comments_fill_their_actions() {
    check(&[
        ("a{{/* c */}}b", Ok("ab")),
        ("a {{- /* c */}} b", Ok("a b")),
        ("a\n{{- /* c\nd */}}\nb {{- .name}}", Ok("a\nbnode1")),
        ("a {{/* c */ -}} b", Ok("a b")),
        ("a{{ /* c */}}b", FAILS),
        ("a{{/* c */ }}b", FAILS),
        ("a{{-  /* c */}}b", FAILS),
        ("a{{/* c */  -}}b", FAILS),
        ("a{{/* c */ .name}}b", FAILS),
        ("a{{/* c }}b", FAILS),
    ]);
}

#[test]
fn quotes_end_on_their_line_and_blocks_have_values() {
    check(&[
        ("{{block \"b\"}}x{{end}}", FAILS),
        ("{{- block \"b\" -}}x{{end}}", FAILS),
        ("{{block `b` }}x{{end}}", FAILS),
        ("{{block \"b\" .}}x{{end}}", Ok("x")),
        ("{{block \"b\\\"\" .name -}} {{.}}{{end}}", Ok("node1")),
        ("{{\"a\nb\"}}", FAILS),
        ("{{\"a\\\nb\"}}", FAILS),
        ("{{'\n'}}", FAILS),
        ("{{`a\nb`}}", Ok("a\nb")),
        ("{{if .yes}}{{define \"x\"}}{{end}}{{end}}", FAILS),
        ("{{printf \"%\"}}", Ok("%!(NOVERB)")),
        (
            "{{printf \"% x|% #x|% x\" \"abc\" \"ab\" 255}}",
            Ok("61 62 63|0x61 0x62| ff"),
        ),
        ("{{printf \"%3c|%-3c|\" 65 66}}", Ok("  A|B  |")),
        (
            "{{printf \"%10.3v|%10.3v\" \"abcdef\" 3.14159}}",
            Ok("       abc|      3.14"),
        ),
    ]);
}
