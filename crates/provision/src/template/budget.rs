//! What one rendering may do: so many steps, and so many bytes of values made on the way.
//!
//! Without it a template of a few lines works for years (definitions that call each other twice) or takes all
//! memory (a variable that doubles): no machine waits for that, and the others' requests must not either.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gotmpl::{Result, TemplateError, Value};

/// Steps of one rendering: a node that is executed, or a command in it. Ten thousand machines in a `range`
/// of twenty fields each take less; all of them take about a second.
pub(super) const STEPS_MAX: u64 = 1_000_000;
/// Longest text that a template, or a value of it, may grow to.
pub(super) const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// So many bytes that a function reads or makes count as a step: 32 MB of values in all.
const BYTES_PER_STEP: usize = 32;

/// What is left for one rendering; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            left: Arc::new(AtomicU64::new(STEPS_MAX)),
        }
    }

    /// Takes as many steps as the number says that is given.
    pub(super) fn step(&self, args: &[Value]) -> Result<Value> {
        let steps = args.first().and_then(Value::as_int).unwrap_or(1);
        self.spend(u64::try_from(steps).unwrap_or(u64::MAX))?;
        Ok(Value::Nil)
    }

    /// Takes the steps that bytes cost.
    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<()> {
        self.spend((bytes / BYTES_PER_STEP) as u64)
    }

    /// A text that a function made, if it is paid for.
    pub(super) fn text(&self, text: String) -> Result<Value> {
        fits(text.len())?;
        self.spend_bytes(text.len())?;
        Ok(Value::String(text.into()))
    }

    fn spend(&self, steps: u64) -> Result<()> {
        let spent = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(steps)
            });
        if spent.is_ok() {
            return Ok(());
        }
        let text = format!(
            "gives up after {STEPS_MAX} steps: its loops, or the templates that call each other, have no end in sight"
        );
        Err(TemplateError::Exec(text))
    }
}

/// Whether a text of this length may be at all.
pub(super) fn fits(bytes: usize) -> Result<()> {
    if bytes <= OUTPUT_BYTES_MAX {
        return Ok(());
    }
    let text = format!("a text would have more than {OUTPUT_BYTES_MAX} bytes");
    Err(TemplateError::Exec(text))
}
