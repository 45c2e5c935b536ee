//! Where gotmpl differs from Go's `text/template`, put right in the parsed tree.
//!
//! - Go refuses a block that is not closed and an `{{end}}` too many; gotmpl takes the end of the
//!   text for the one and drops everything after the other, which would send half a config. A
//!   sentinel action behind the text must come out as the last node of the top level.
//! - Go knows its functions while it parses; an unknown one in a branch that is not taken is an
//!   error too.
//! - A field of nothing (JSON `null`) is an error in Go: every field access becomes a call of
//!   [`FIELD`].
//! - A `float64` prints as `1e+06`: what is printed goes through [`SHOW`], what `printf "%v"` and
//!   the escapers take goes through [`TEXT`].
//!
//! And it tells the [`budget`](super::budget) what a list of nodes costs ([`STEP`]), and what a value does
//! that a function of gotmpl's own reads through ([`WEIGH`]).

use gotmpl::{
    TemplateError,
    parse::{
        ActionNode, CommandNode, DefineNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos,
        SmolStr,
    },
};

use super::blocks;

/// The function that replaces field access: the value, then the names.
pub(super) const FIELD: &str = "larder_field";
/// The function that prints an action's value.
pub(super) const SHOW: &str = "larder_show";
/// The function that gives numbers, lists and maps their text and leaves other values alone.
pub(super) const TEXT: &str = "larder_text";
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

/// Parses a template and its definitions into trees that execute as Go would.
pub(super) fn parse(source: &str) -> Result<(ListNode, Vec<DefineNode>), TemplateError> {
    blocks::too_deep(source)?;
    let sentinel = format!("{source}{{{{\"{SENTINEL}\"}}}}");
    let (mut tree, mut definitions) = Parser::new(&sentinel, "{{", "}}")?.parse()?;
    if !tree.nodes.pop().is_some_and(|node| is_sentinel(&node)) {
        return Err(blocks::unbalanced(source));
    }
    list(&mut tree)?;
    for definition in &mut definitions {
        list(&mut definition.body)?;
    }
    Ok((tree, definitions))
}

/// Parses a template as it stands: of what the end of the text cuts off, this error says where it began.
pub(super) fn parse_alone(source: &str) -> Result<(), TemplateError> {
    blocks::too_deep(source)?;
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
                if let Some(data) = &mut template.pipe {
                    pipe(data)?;
                }
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
        if let Some(piped) = printed(&mut command)
            && position > 0
            && piped
        {
            adapted.push(call(command.pos, TEXT, vec![]));
        }
        if weighed(&mut command) && position > 0 {
            adapted.push(call(command.pos, WEIGH, vec![]));
        }
        adapted.push(command);
    }
    pipe.commands = adapted;
    Ok(())
}

/// Wraps the arguments whose text a function takes; whether a piped one is taken as text too, if
/// the command is such a call.
fn printed(command: &mut CommandNode) -> Option<bool> {
    let (Expr::Identifier(_, name), arguments) = command.args.split_first_mut()? else {
        return None;
    };
    let (verbs, values) = match name.as_str() {
        "html" | "js" | "urlquery" => (None, arguments),
        "printf" => match arguments.split_first_mut() {
            Some((Expr::String(_, format), values)) => (Some(verbs(format)), values),
            _ => return None,
        },
        _ => return None,
    };
    let is_text = |position: usize| match &verbs {
        None => true,
        Some(verbs) => verbs.get(position) == Some(&'v'),
    };
    let count = values.len();
    for (position, value) in values.iter_mut().enumerate() {
        if is_text(position) {
            let inner = std::mem::replace(value, Expr::Nil(command.pos));
            *value = pipe_of(command.pos, call(command.pos, TEXT, vec![inner]));
        }
    }
    Some(is_text(count))
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

/// The verbs of a format, one for each argument; none where `*` or `[n]` rearrange them.
fn verbs(format: &str) -> Vec<char> {
    let mut verbs = Vec::new();
    let mut letters = format.chars();
    while letters.by_ref().any(|letter| letter == '%') {
        let verb =
            letters.find(|letter| !matches!(letter, '0'..='9' | '.' | '+' | '-' | '#' | ' '));
        match verb {
            Some('%') | None => {}
            Some('*' | '[') => return Vec::new(),
            Some(verb) => verbs.push(verb),
        }
    }
    verbs
}

fn expression(expression: &mut Expr) -> Result<(), TemplateError> {
    let pos = expression.pos();
    match expression {
        Expr::Identifier(_, name) if !FUNCTIONS.contains(&name.as_str()) => {
            return Err(TemplateError::UndefinedFunction(name.to_string()));
        }
        Expr::Pipe(_, inner) => pipe(inner)?,
        Expr::Field(_, names) => {
            *expression = field(pos, Expr::Dot(pos), names);
        }
        Expr::Variable(_, name, names) if !names.is_empty() => {
            let variable = Expr::Variable(pos, name.clone(), Vec::new());
            *expression = field(pos, variable, names);
        }
        Expr::Chain(_, inner, names) if !matches!(**inner, Expr::Identifier(..)) => {
            self::expression(inner)?;
            let inner = std::mem::replace(&mut **inner, Expr::Nil(pos));
            *expression = field(pos, inner, names);
        }
        _ => {}
    }
    Ok(())
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
    Expr::Pipe(
        pos,
        PipeNode {
            pos,
            decl: Vec::new(),
            commands: vec![command],
            is_assign: false,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_counted_by_argument() {
        assert_eq!(verbs("a%%b %05d %-3v%q"), ['d', 'v', 'q']);
        assert!(verbs("%[2]d %*d").is_empty());
        assert_eq!(verbs("100%"), []);
    }

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
