//! Where gotmpl differs from Go's `text/template`, put right in the parsed tree.
//!
//! - Go refuses a block that is not closed and an `{{end}}` too many; gotmpl takes the end of the
//!   text for the one and drops everything after the other, which would send half a config. A
//!   sentinel action behind the text must come out as the last node of the top level.
//! - Go knows its functions while it parses; an unknown one in a branch that is not taken is an
//!   error too.
//! - A field of nothing (JSON `null`) is an error in Go: every field access becomes a call of
//!   [`FIELD`].
//! - A `float64` prints as `1e+06`: what is printed goes through [`SHOW`].
//! - A template that is called without an argument has no data at all ([`NOTHING`]); gotmpl gives it
//!   its caller's.
//! - What [`scope`] and [`blocks`] know of.
//!
//! And it tells the [`budget`](super::budget) what a list of nodes costs ([`STEP`]), and what a value does
//! that a function of gotmpl's own reads through ([`WEIGH`]).

use std::collections::{BTreeMap, btree_map::Entry};

use gotmpl::{
    TemplateError,
    parse::{
        ActionNode, CommandNode, DefineNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos,
        SmolStr,
    },
};

use super::{MAIN, blocks, scope};

/// The function that replaces field access: the value, then the names.
pub(super) const FIELD: &str = "larder_field";
/// The function that prints an action's value.
pub(super) const SHOW: &str = "larder_show";
/// The function that gives no value.
pub(super) const NOTHING: &str = "larder_nothing";
/// The function that refuses to assign to the variable that it is given the name of.
pub(super) const UNDECLARED: &str = "larder_undeclared";
/// The function that a list of nodes begins with: it takes what the list costs.
pub(super) const STEP: &str = "larder_step";
/// The function that gives its value back once the budget has paid for reading it.
pub(super) const WEIGH: &str = "larder_weigh";

/// A name that no template gives to a variable: what a [`STEP`] gives is not printed.
const STEPS: SmolStr = SmolStr::new_static("$\u{1}steps");

/// Go's predefined functions.
const FUNCTIONS: [&str; 19] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// Those of gotmpl's own that read their values from end to end.
const READERS: [&str; 7] = ["eq", "ge", "gt", "le", "lt", "ne", "slice"];

/// A text that no template contains by chance; `{{"…"}}` of it is the sentinel.
const SENTINEL: &str = "\u{1}larder: the text's end\u{1}";

/// Parses a template and its definitions into trees that execute as Go would; the template itself is the one
/// called [`MAIN`].
pub(super) fn parse(source: &str) -> Result<Vec<DefineNode>, TemplateError> {
    blocks::check(source)?;
    let commented = blocks::trimmed_on_one_side(source);
    let sentinel = format!("{commented}{{{{\"{SENTINEL}\"}}}}");
    let (mut tree, mut trees) = Parser::new(&sentinel, "{{", "}}")?.parse()?;
    if !tree.nodes.pop().is_some_and(|node| is_sentinel(&node)) {
        return Err(blocks::unbalanced(source));
    }
    trees.push(DefineNode {
        pos: tree.pos,
        name: MAIN,
        body: tree,
    });
    let mut trees = one_of_each(source, trees)?;
    for DefineNode { body, .. } in &mut trees {
        scope::check(source, body)?;
        list(body)?;
    }
    Ok(trees)
}

/// Of definitions with one name Go takes the first that has anything in it, and refuses a second one.
fn one_of_each(source: &str, trees: Vec<DefineNode>) -> Result<Vec<DefineNode>, TemplateError> {
    let mut kept: Vec<DefineNode> = Vec::with_capacity(trees.len());
    let mut places: BTreeMap<SmolStr, usize> = BTreeMap::new();
    for tree in trees {
        match places.entry(tree.name.clone()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(tree);
            }
            Entry::Occupied(place) => {
                let before = kept
                    .get_mut(*place.get())
                    .filter(|kept| !kept.body.is_empty_tree());
                match before {
                    Some(_) if tree.body.is_empty_tree() => {}
                    Some(_) => {
                        let message = format!("multiple definition of template {:?}", tree.name);
                        return Err(blocks::at(source, tree.pos.offset, message));
                    }
                    None => kept[*place.get()] = tree,
                }
            }
        }
    }
    Ok(kept)
}

/// Parses a template as it stands: of what the end of the text cuts off, this error says where it began.
pub(super) fn parse_alone(source: &str) -> Result<(), TemplateError> {
    blocks::check(source)?;
    Parser::new(source, "{{", "}}")?.parse().map(drop)
}

fn is_sentinel(node: &Node) -> bool {
    let Node::Action(ActionNode { pipe, .. }) = node else {
        return false;
    };
    let Some(Expr::String(_, text)) = pipe.commands.first().and_then(|c| c.args.first()) else {
        return false;
    };
    text.as_ref() == SENTINEL
}

fn list(tree: &mut ListNode) -> Result<(), TemplateError> {
    for node in &mut tree.nodes {
        match node {
            Node::List(inner) => list(inner)?,
            Node::Action(action) => {
                pipe(&mut action.pipe)?;
                if action.pipe.decl.is_empty() {
                    action.pipe.commands.push(call(action.pos, SHOW, vec![]));
                }
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                pipe(&mut branch.pipe)?;
                list(&mut branch.body)?;
                if let Some(other) = &mut branch.else_body {
                    list(other)?;
                }
            }
            Node::Template(template) => {
                let nothing = || bare_pipe(template.pos, call(template.pos, NOTHING, vec![]));
                pipe(template.pipe.get_or_insert_with(nothing))?;
            }
            Node::Define(definition) => list(&mut definition.body)?,
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
    // A definition without anything in it replaces no other: it must stay so.
    if !tree.is_empty_tree() {
        tree.nodes.insert(0, step(tree));
    }
    Ok(())
}

/// The action that pays for a list's own nodes; the lists in it have theirs.
fn step(tree: &ListNode) -> Node {
    let pipes = tree.nodes.iter().filter_map(|node| match node {
        Node::Action(action) => Some(&action.pipe),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(&branch.pipe),
        Node::Template(template) => template.pipe.as_ref(),
        _ => None,
    });
    let cost = tree.nodes.len() + pipes.map(calls).sum::<usize>();
    let cost = Number::Int(i64::try_from(cost).unwrap_or(i64::MAX));
    Node::Action(ActionNode {
        pos: tree.pos,
        pipe: PipeNode {
            pos: tree.pos,
            decl: vec![STEPS],
            commands: vec![call(tree.pos, STEP, vec![Expr::Number(tree.pos, cost)])],
            is_assign: false,
        },
    })
}

/// How many commands a pipe has, those in brackets included.
fn calls(pipe: &PipeNode) -> usize {
    let arguments = pipe.commands.iter().flat_map(|command| &command.args);
    let inner = arguments.map(|argument| match argument {
        Expr::Pipe(_, inner) => calls(inner),
        Expr::Chain(_, inner, _) => match inner.as_ref() {
            Expr::Pipe(_, inner) => calls(inner),
            _ => 0,
        },
        _ => 0,
    });
    pipe.commands.len() + inner.sum::<usize>()
}

fn pipe(pipe: &mut PipeNode) -> Result<(), TemplateError> {
    let mut adapted = Vec::with_capacity(pipe.commands.len());
    for (position, mut command) in pipe.commands.drain(..).enumerate() {
        for argument in &mut command.args {
            expression(argument)?;
        }
        if weighed(&mut command) && position > 0 {
            adapted.push(call(command.pos, WEIGH, vec![]));
        }
        adapted.push(command);
    }
    pipe.commands = adapted;
    Ok(())
}

/// Whether the command is one of the [`READERS`]; its arguments are weighed then.
fn weighed(command: &mut CommandNode) -> bool {
    let Some((name, arguments)) = command.args.split_first_mut() else {
        return false;
    };
    // With fields behind it, it stands in a chain.
    let name = match name {
        Expr::Chain(_, inner, _) => inner,
        name => name,
    };
    let Expr::Identifier(_, name) = name else {
        return false;
    };
    if !READERS.contains(&name.as_str()) {
        return false;
    }
    for argument in arguments {
        if matches!(
            argument,
            Expr::String(..) | Expr::Dot(_) | Expr::Variable(..) | Expr::Pipe(..) | Expr::Chain(..)
        ) {
            let inner = std::mem::replace(argument, Expr::Nil(command.pos));
            *argument = pipe_of(command.pos, call(command.pos, WEIGH, vec![inner]));
        }
    }
    true
}

fn expression(expression: &mut Expr) -> Result<(), TemplateError> {
    let pos = expression.pos();
    match expression {
        Expr::Identifier(_, name) => known(name)?,
        Expr::Pipe(_, inner) => pipe(inner)?,
        Expr::Field(_, names) => {
            *expression = field(pos, Expr::Dot(pos), names);
        }
        Expr::Variable(_, name, names) if !names.is_empty() => {
            let variable = Expr::Variable(pos, name.clone(), Vec::new());
            *expression = field(pos, variable, names);
        }
        Expr::Chain(_, inner, names) => {
            if let Expr::Identifier(_, name) = &**inner {
                return known(name);
            }
            self::expression(inner)?;
            let inner = std::mem::replace(&mut **inner, Expr::Nil(pos));
            *expression = field(pos, inner, names);
        }
        _ => {}
    }
    Ok(())
}

/// Whether a function of this name is one of ours or Go's.
fn known(name: &SmolStr) -> Result<(), TemplateError> {
    let ours = [NOTHING, UNDECLARED];
    if FUNCTIONS.contains(&name.as_str()) || ours.contains(&name.as_str()) {
        return Ok(());
    }
    Err(TemplateError::UndefinedFunction(name.to_string()))
}

/// The command that refuses to assign to a variable that has no value yet.
pub(super) fn undeclared(pos: Pos, name: &SmolStr) -> CommandNode {
    call(
        pos,
        UNDECLARED,
        vec![Expr::String(pos, name.as_str().into())],
    )
}

/// `base.name.name` as a call.
fn field(pos: Pos, base: Expr, names: &[SmolStr]) -> Expr {
    let names = names
        .iter()
        .map(|name| Expr::String(pos, name.as_str().into()));
    pipe_of(
        pos,
        call(pos, FIELD, std::iter::once(base).chain(names).collect()),
    )
}

fn call(pos: Pos, function: &'static str, arguments: Vec<Expr>) -> CommandNode {
    let function = Expr::Identifier(pos, SmolStr::new_static(function));
    CommandNode {
        pos,
        args: std::iter::once(function).chain(arguments).collect(),
    }
}

fn pipe_of(pos: Pos, command: CommandNode) -> Expr {
    Expr::Pipe(pos, bare_pipe(pos, command))
}

fn bare_pipe(pos: Pos, command: CommandNode) -> PipeNode {
    PipeNode {
        pos,
        decl: Vec::new(),
        commands: vec![command],
        is_assign: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_block_is_an_error() {
        for source in [
            "{{if .a}}",
            "{{end}}",
            "{{if .a}}{{end}}{{end}}x",
            "{{define \"d\"}}",
            "{{else}}",
        ] {
            assert!(parse(source).is_err(), "{source}");
        }
        assert!(parse("{{if .a}}{{else}}{{end}}").is_ok());
    }
}
