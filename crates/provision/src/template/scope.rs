//! What Go refuses while it parses, whether or not anybody comes by: variables that nobody has declared,
//! `{{break}}` and `{{continue}}` outside of a range, values in a pipeline's later stages that are no
//! functions.

use gotmpl::{
    TemplateError,
    parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos, SmolStr},
};

use super::{adapt, blocks};

/// A name that Go's parser knows.
struct Variable {
    name: SmolStr,
    /// Whether it has a value when execution comes here; to the parser an assignment makes a name known too,
    /// and the names of a branch are still known in the `{{else}}` behind it.
    has_value: bool,
}

/// What is known at a place in a template.
struct Scope<'a> {
    source: &'a str,
    variables: Vec<Variable>,
    ranges: usize,
}

/// Checks one template or definition. An assignment to what has no value is an error only when it is executed:
/// it becomes a call of [`adapt::UNDECLARED`].
pub(super) fn check(source: &str, tree: &mut ListNode) -> Result<(), TemplateError> {
    let root = Variable {
        name: SmolStr::new_static("$"),
        has_value: true,
    };
    Scope {
        source,
        variables: vec![root],
        ranges: 0,
    }
    .list(tree)
}

impl Scope<'_> {
    fn list(&mut self, tree: &mut ListNode) -> Result<(), TemplateError> {
        for node in &mut tree.nodes {
            match node {
                Node::List(inner) => self.list(inner)?,
                Node::Action(action) => self.pipe(&mut action.pipe)?,
                Node::If(branch) | Node::With(branch) => self.branch(branch, false)?,
                Node::Range(branch) => self.branch(branch, true)?,
                Node::Template(template) => {
                    if let Some(pipe) = &mut template.pipe {
                        self.pipe(pipe)?;
                    }
                }
                Node::Break(pos) if self.ranges == 0 => {
                    return Err(self.wrong(*pos, "{{break}} outside {{range}}"));
                }
                Node::Continue(pos) if self.ranges == 0 => {
                    return Err(self.wrong(*pos, "{{continue}} outside {{range}}"));
                }
                Node::Break(_) | Node::Continue(_) | Node::Text(_) | Node::Define(_) => {}
            }
        }
        Ok(())
    }

    fn branch(&mut self, branch: &mut BranchNode, is_range: bool) -> Result<(), TemplateError> {
        let outside = self.variables.len();
        self.pipe(&mut branch.pipe)?;
        let inside = self.variables.len();
        self.ranges += usize::from(is_range);
        self.list(&mut branch.body)?;
        self.ranges -= usize::from(is_range);
        if let Some(other) = &mut branch.else_body {
            // A range gives its variables their values for each turn, and there is none.
            let lost = if is_range { outside } else { inside };
            for variable in self.variables.iter_mut().skip(lost) {
                variable.has_value = false;
            }
            self.list(other)?;
        }
        self.variables.truncate(outside);
        Ok(())
    }

    fn pipe(&mut self, pipe: &mut PipeNode) -> Result<(), TemplateError> {
        let before = self.variables.len();
        let mut undeclared = None;
        for name in &pipe.decl {
            if pipe.is_assign && !self.has_value(name) {
                undeclared = Some(name.clone());
            }
            self.variables.push(Variable {
                name: name.clone(),
                has_value: false,
            });
        }
        for (stage, command) in pipe.commands.iter_mut().enumerate() {
            if stage > 0 && !is_executable(command) {
                let text = format!("non executable command in pipeline stage {}", stage + 1);
                return Err(self.wrong(command.pos, &text));
            }
            for argument in &mut command.args {
                self.expression(argument)?;
            }
        }
        if let Some(name) = undeclared {
            pipe.commands.push(adapt::undeclared(pipe.pos, &name));
        }
        let declared = !pipe.is_assign;
        for variable in self.variables.iter_mut().skip(before) {
            variable.has_value = declared;
        }
        Ok(())
    }

    fn expression(&mut self, expression: &mut Expr) -> Result<(), TemplateError> {
        match expression {
            Expr::Variable(pos, name, _) if self.find(name).is_none() => {
                Err(self.wrong(*pos, &format!("undefined variable {name:?}")))
            }
            Expr::Pipe(_, inner) => self.pipe(inner),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Option<&Variable> {
        self.variables
            .iter()
            .rev()
            .find(|variable| variable.name == name)
    }

    /// Whether any of that name has a value: an assignment looks for the innermost that has.
    fn has_value(&self, name: &str) -> bool {
        let mut variables = self.variables.iter();
        variables.any(|variable| variable.name == name && variable.has_value)
    }

    fn wrong(&self, pos: Pos, text: &str) -> TemplateError {
        blocks::at(self.source, pos.offset, text.to_owned())
    }
}

/// Whether a command can take what the stage before it gives.
fn is_executable(command: &CommandNode) -> bool {
    !matches!(
        command.args.first(),
        Some(Expr::Bool(..) | Expr::Dot(_) | Expr::Nil(_) | Expr::Number(..) | Expr::String(..))
    )
}
