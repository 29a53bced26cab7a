//! From an expression of the graph to a tree of kernels.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, BooleanArray, StringArray, new_null_array};
use millstream_api::graph::functions::ScalarFunction;
use millstream_api::graph::{Expr, ExprKind, Literal, Schema, SqlType};

use super::cast::Cast;
use super::functions::{self, ArgInfo};
use super::operand::{Input, Native};
use super::tree::{Node, Tree};
use super::{EvalContext, ExprError};

/// Compiles the expression; parts that depend on nothing become literals.
pub fn compile(expr: &Expr, schema: &Schema) -> Result<Tree, ExprError> {
    let tree = match &expr.kind {
        ExprKind::Column { index } => column(*index, &expr.ty, schema)?,
        ExprKind::Literal { value } => {
            let node = Node::Literal(literal(value, &expr.ty)?);
            Tree { node, data_type: expr.ty.arrow(), can_fail: false, constant: true, reads: Vec::new() }
        }
        ExprKind::Call { function, args } => call(function, args, &expr.ty, schema)?,
        ExprKind::Cast { arg, try_cast } => {
            let cast = Cast::new(&arg.ty, &expr.ty, *try_cast)?;
            let arg = compile(arg, schema)?;
            let facts = Facts::of([&arg]);
            let can_fail = cast.can_fail();
            facts.tree(Node::Cast(cast, Box::new(arg)), &expr.ty, can_fail, true)
        }
        ExprKind::Case { branches, otherwise } => case(branches, otherwise.as_deref(), &expr.ty, schema)?,
    };
    Ok(fold(tree))
}

/// What a node takes over from its parts.
struct Facts {
    can_fail: bool,
    constant: bool,
    reads: Vec<usize>,
}

impl Facts {
    fn of<'a>(parts: impl IntoIterator<Item = &'a Tree>) -> Self {
        let mut facts = Facts { can_fail: false, constant: true, reads: Vec::new() };
        for part in parts {
            facts.can_fail |= part.can_fail;
            facts.constant &= part.constant;
            facts.reads.extend_from_slice(&part.reads);
        }
        facts.reads.sort_unstable();
        facts.reads.dedup();
        facts
    }

    fn tree(self, node: Node, ty: &SqlType, can_fail: bool, constant: bool) -> Tree {
        Tree {
            node,
            data_type: ty.arrow(),
            can_fail: self.can_fail || can_fail,
            constant: self.constant && constant,
            reads: self.reads,
        }
    }
}

fn column(index: usize, ty: &SqlType, schema: &Schema) -> Result<Tree, ExprError> {
    let field = schema.fields.get(index).ok_or_else(|| {
        ExprError::new(format!("the expression reads column {index}, the input has {}", schema.fields.len()))
    })?;
    if field.ty.arrow() != ty.arrow() {
        return Err(ExprError::new(format!(
            "the expression reads column `{}` as {ty}, the input has it as {}",
            field.name, field.ty
        )));
    }
    let node = Node::Column(index);
    Ok(Tree { node, data_type: ty.arrow(), can_fail: false, constant: false, reads: vec![index] })
}

fn call(name: &str, args: &[Expr], ty: &SqlType, schema: &Schema) -> Result<Tree, ExprError> {
    let function = ScalarFunction::find(name)
        .filter(|f| (f.args_min..=f.args_max).contains(&args.len()))
        .ok_or_else(|| ExprError::new(format!("there is no function {name} of {} arguments", args.len())))?;
    let trees = args.iter().map(|a| compile(a, schema)).collect::<Result<Vec<_>, _>>()?;
    let facts = Facts::of(&trees);
    match function.name {
        "AND" => return Ok(facts.tree(Node::And(trees), ty, false, true)),
        "OR" => return Ok(facts.tree(Node::Or(trees), ty, false, true)),
        "COALESCE" => return Ok(facts.tree(Node::Coalesce(trees), ty, false, true)),
        _ => {}
    }
    let infos: Vec<ArgInfo<'_>> = args
        .iter()
        .zip(&trees)
        .map(|(arg, tree)| ArgInfo {
            ty: &arg.ty,
            value: match &tree.node {
                Node::Literal(value) => Some(value),
                _ => None,
            },
        })
        .collect();
    let bound = functions::bind(function.name, &infos, ty)?;
    let can_fail = bound.can_fail();
    Ok(facts.tree(Node::Call(bound, trees), ty, can_fail, function.deterministic))
}

fn case(branches: &[(Expr, Expr)], otherwise: Option<&Expr>, ty: &SqlType, schema: &Schema) -> Result<Tree, ExprError> {
    let branches = branches
        .iter()
        .map(|(when, then)| Ok((compile(when, schema)?, compile(then, schema)?)))
        .collect::<Result<Vec<_>, ExprError>>()?;
    let otherwise = otherwise.map(|e| compile(e, schema)).transpose()?;
    let facts = Facts::of(branches.iter().flat_map(|(when, then)| [when, then]).chain(&otherwise));
    Ok(facts.tree(Node::Case(branches, otherwise.map(Box::new)), ty, false, true))
}

/// Computes a tree without columns. One that fails stays as it is: it may stand in a branch that no row takes.
fn fold(tree: Tree) -> Tree {
    if !tree.constant || matches!(tree.node, Node::Literal(_)) {
        return tree;
    }
    // Nothing constant reads the clock.
    let cx = EvalContext { processing_time_ms: 0 };
    match tree.evaluate(&Input::one_row(), &cx).and_then(|value| Ok(value.into_array(1)?)) {
        Ok(value) => Tree { node: Node::Literal(value), can_fail: false, ..tree },
        Err(_) => tree,
    }
}

/// The literal as an array of one element.
fn literal(value: &Literal, ty: &SqlType) -> Result<ArrayRef, ExprError> {
    let data_type = ty.arrow();
    let mismatch = || ExprError::new(format!("the literal {value:?} is not a {ty}"));
    Ok(match (value, ty) {
        (Literal::Null, _) => new_null_array(&data_type, 1),
        (Literal::Boolean(b), SqlType::Boolean) => Arc::new(BooleanArray::from(vec![*b])),
        (Literal::Int(v), SqlType::TinyInt) => {
            i8::array(vec![i8::try_from(*v).map_err(|_| mismatch())?], None, &data_type)
        }
        (Literal::Int(v), SqlType::SmallInt) => {
            i16::array(vec![i16::try_from(*v).map_err(|_| mismatch())?], None, &data_type)
        }
        (Literal::Int(v), SqlType::Int) => {
            i32::array(vec![i32::try_from(*v).map_err(|_| mismatch())?], None, &data_type)
        }
        (Literal::Int(v), SqlType::BigInt) => i64::array(vec![*v], None, &data_type),
        (Literal::FloatBits(bits), SqlType::Double) => f64::array(vec![f64::from_bits(*bits)], None, &data_type),
        (Literal::FloatBits(bits), SqlType::Float) => f32::array(vec![f64::from_bits(*bits) as f32], None, &data_type),
        (Literal::Decimal(text), SqlType::Decimal { .. }) => {
            i128::array(vec![text.parse().map_err(|_| mismatch())?], None, &data_type)
        }
        (Literal::String(text), t) if t.is_string() => Arc::new(StringArray::from(vec![text.as_str()])),
        (Literal::Bytes(bytes), SqlType::Binary { .. } | SqlType::VarBinary { .. }) => {
            Arc::new(BinaryArray::from(vec![bytes.as_slice()]))
        }
        (Literal::Date(v) | Literal::Time(v), SqlType::Date | SqlType::Time { .. }) => {
            i32::array(vec![*v], None, &data_type)
        }
        (Literal::Timestamp(v), t) if t.is_timestamp() => i64::array(vec![*v], None, &data_type),
        (Literal::IntervalMillis(v), SqlType::IntervalDayTime) => i64::array(vec![*v], None, &data_type),
        (Literal::IntervalMonths(v), SqlType::IntervalYearMonth) => i32::array(vec![*v], None, &data_type),
        _ => return Err(mismatch()),
    })
}
