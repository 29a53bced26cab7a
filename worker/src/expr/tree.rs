//! The compiled form of an expression, and its evaluation.
//!
//! A node that can fail on some row is evaluated only for the rows that ask for it: `CASE WHEN b <> 0 THEN a / b END` must
//! not divide by zero, and `b <> 0 AND a / b > 1` neither. Nodes that cannot fail are evaluated for all rows, which is
//! cheaper than to select rows.

use std::sync::Arc;

use arrow_arith::boolean::{and_kleene, or_kleene};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow_schema::DataType;
use arrow_select::filter::{filter, prep_null_mask_filter};
use arrow_select::interleave::interleave;
use arrow_select::zip::zip;

use super::cast::Cast;
use super::functions::{Call, Function};
use super::operand::{Input, Operand};
use super::{EvalContext, EvalError};

/// An expression with what evaluation must know about it.
#[derive(Debug)]
pub struct Tree {
    pub node: Node,
    pub data_type: DataType,
    /// Whether some row can fail.
    pub can_fail: bool,
    /// Whether it reads nothing but its arguments: no column, no clock.
    pub constant: bool,
    /// The columns it reads, each once.
    pub reads: Vec<usize>,
}

#[derive(Debug)]
pub enum Node {
    Column(usize),
    /// An array of one element.
    Literal(ArrayRef),
    Call(Function, Vec<Tree>),
    Cast(Cast, Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Coalesce(Vec<Tree>),
    Case(Vec<(Tree, Tree)>, Option<Box<Tree>>),
}

impl Tree {
    pub fn as_column(&self) -> Option<usize> {
        match self.node {
            Node::Column(index) => Some(index),
            _ => None,
        }
    }

    pub fn evaluate(&self, input: &Input, cx: &EvalContext) -> Result<Operand, EvalError> {
        match &self.node {
            Node::Column(index) => Ok(Operand::Column(input.column(*index))),
            Node::Literal(value) => Ok(Operand::Scalar(Arc::clone(value))),
            Node::Call(function, args) => {
                let args = args.iter().map(|a| a.evaluate(input, cx)).collect::<Result<Vec<_>, _>>()?;
                let scalar = args.iter().all(Operand::is_scalar);
                let rows = if scalar { 1 } else { input.rows };
                let result = function.call(&Call { args: &args, rows, cx })?;
                Ok(if scalar { Operand::Scalar(result) } else { Operand::Column(result) })
            }
            Node::Cast(cast, arg) => match arg.evaluate(input, cx)? {
                Operand::Scalar(value) => Ok(Operand::Scalar(cast.apply(&value)?)),
                Operand::Column(values) => Ok(Operand::Column(cast.apply(&values)?)),
            },
            Node::And(args) => self.evaluate_logic(args, input, cx, false),
            Node::Or(args) => self.evaluate_logic(args, input, cx, true),
            Node::Coalesce(args) => self.evaluate_coalesce(args, input, cx),
            Node::Case(branches, otherwise) => {
                if self.can_fail {
                    self.evaluate_case(branches, otherwise.as_deref(), input, cx)
                } else {
                    self.evaluate_safe_case(branches, otherwise.as_deref(), input, cx)
                }
            }
        }
    }

    /// AND and OR: an argument is not evaluated for rows that an earlier one has decided. `decisive`: the value that
    /// decides.
    fn evaluate_logic(
        &self,
        args: &[Tree],
        input: &Input,
        cx: &EvalContext,
        decisive: bool,
    ) -> Result<Operand, EvalError> {
        let combine = if decisive { or_kleene } else { and_kleene };
        let mut all: Option<BooleanArray> = None;
        for arg in args {
            let Some(so_far) = &all else {
                all = Some(boolean(arg.evaluate(input, cx)?, input.rows)?);
                continue;
            };
            let next = if arg.can_fail {
                let open = undecided(so_far, decisive);
                if open.is_empty() {
                    break;
                }
                let part = boolean(arg.evaluate(&input.select(&open, &arg.reads)?, cx)?, open.len())?;
                spread(&part, &open, so_far.len(), decisive)
            } else {
                boolean(arg.evaluate(input, cx)?, input.rows)?
            };
            all = Some(combine(so_far, &next)?);
        }
        let all = all.unwrap_or_else(|| BooleanArray::new_null(input.rows));
        Ok(Operand::Column(Arc::new(all)))
    }

    fn evaluate_coalesce(&self, args: &[Tree], input: &Input, cx: &EvalContext) -> Result<Operand, EvalError> {
        let mut pieces = Pieces::new(input.rows);
        for arg in args {
            let open = pieces.open_rows();
            if open.is_empty() {
                break;
            }
            let values = if open.len() == input.rows {
                arg.evaluate(input, cx)?.into_array(input.rows)?
            } else {
                arg.evaluate(&input.select(&open, &arg.reads)?, cx)?.into_array(open.len())?
            };
            let null_count = values.logical_null_count();
            if null_count == 0 && pieces.is_new() {
                return Ok(Operand::Column(values));
            }
            pieces.add(values, &open, true);
        }
        Ok(Operand::Column(pieces.finish(&self.data_type)?))
    }

    /// No part of it fails: everything for all rows, put together from the last branch to the first.
    fn evaluate_safe_case(
        &self,
        branches: &[(Tree, Tree)],
        otherwise: Option<&Tree>,
        input: &Input,
        cx: &EvalContext,
    ) -> Result<Operand, EvalError> {
        let mut result = match otherwise {
            Some(tree) => tree.evaluate(input, cx)?,
            None => Operand::Scalar(new_null_array(&self.data_type, 1)),
        };
        for (when, then) in branches.iter().rev() {
            let mask = boolean(when.evaluate(input, cx)?, input.rows)?;
            let value = then.evaluate(input, cx)?;
            result = Operand::Column(zip(&definite(&mask), &value, &result)?);
        }
        Ok(result)
    }

    /// Branch by branch, each only for the rows that reach it.
    fn evaluate_case(
        &self,
        branches: &[(Tree, Tree)],
        otherwise: Option<&Tree>,
        input: &Input,
        cx: &EvalContext,
    ) -> Result<Operand, EvalError> {
        let mut pieces = Pieces::new(input.rows);
        let mut rest: UInt32Array = (0..input.rows as u32).collect();
        for (when, then) in branches {
            if rest.is_empty() {
                break;
            }
            let mask = definite(&boolean(when.evaluate(&input.select(&rest, &when.reads)?, cx)?, rest.len())?);
            let chosen = filter(&rest, &mask)?.as_primitive().clone();
            if !chosen.is_empty() {
                let values = then.evaluate(&input.select(&chosen, &then.reads)?, cx)?.into_array(chosen.len())?;
                pieces.add(values, &chosen, false);
            }
            rest = filter(&rest, &arrow_arith::boolean::not(&mask)?)?.as_primitive().clone();
        }
        if let Some(tree) = otherwise
            && !rest.is_empty()
        {
            let values = tree.evaluate(&input.select(&rest, &tree.reads)?, cx)?.into_array(rest.len())?;
            pieces.add(values, &rest, false);
        }
        Ok(Operand::Column(pieces.finish(&self.data_type)?))
    }
}

fn boolean(operand: Operand, rows: usize) -> Result<BooleanArray, EvalError> {
    Ok(operand.into_array(rows)?.as_boolean().clone())
}

/// NULL as false.
pub fn definite(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) }
}

/// The rows that are not `decisive`.
fn undecided(mask: &BooleanArray, decisive: bool) -> UInt32Array {
    (0..mask.len() as u32)
        .filter(|row| {
            let row = *row as usize;
            mask.is_null(row) || mask.value(row) != decisive
        })
        .collect()
}

/// Values of the rows in `rows`; `decisive` for the others, where it changes nothing.
fn spread(values: &BooleanArray, rows: &UInt32Array, length: usize, decisive: bool) -> BooleanArray {
    let mut all = vec![Some(decisive); length];
    for (at, row) in rows.values().iter().enumerate() {
        all[*row as usize] = values.is_valid(at).then(|| values.value(at));
    }
    all.into_iter().collect()
}

/// Results of parts of the rows, to be put in order.
struct Pieces {
    arrays: Vec<ArrayRef>,
    /// Piece and position in it of each row.
    places: Vec<Option<(usize, usize)>>,
}

impl Pieces {
    fn new(rows: usize) -> Self {
        Self { arrays: Vec::new(), places: vec![None; rows] }
    }

    fn is_new(&self) -> bool {
        self.arrays.is_empty()
    }

    fn open_rows(&self) -> UInt32Array {
        (0..self.places.len() as u32).filter(|row| self.places[*row as usize].is_none()).collect()
    }

    /// Takes the values of these rows. `open_nulls`: rows that are NULL stay open.
    fn add(&mut self, values: ArrayRef, rows: &UInt32Array, open_nulls: bool) {
        let piece = self.arrays.len();
        let nulls = if open_nulls { values.logical_nulls() } else { None };
        for (at, row) in rows.values().iter().enumerate() {
            if nulls.as_ref().is_none_or(|n| n.is_valid(at)) {
                self.places[*row as usize] = Some((piece, at));
            }
        }
        self.arrays.push(values);
    }

    /// The rows in order; those that nobody took are NULL.
    fn finish(mut self, data_type: &DataType) -> Result<ArrayRef, EvalError> {
        let null_place = (self.arrays.len(), 0);
        if self.places.iter().any(Option::is_none) {
            self.arrays.push(new_null_array(data_type, 1));
        }
        if self.arrays.is_empty() {
            return Ok(new_null_array(data_type, 0));
        }
        let places: Vec<(usize, usize)> = self.places.iter().map(|p| p.unwrap_or(null_place)).collect();
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&arrays, &places)?)
    }
}
