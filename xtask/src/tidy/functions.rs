//! How long functions are.

use super::{Findings, SourceFile, is_test};
use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::visit::{self, Visit};

/// What fits on a screen.
const LINES_BUDGET: usize = 70;
/// The share of longer ones from which on the rule is broken. What separates good code bases of this field from the
/// rest is 1-2 % against 8-12 %.
const LONG_PERCENT_MAX: usize = 2;

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Finds the functions of a file, leaving out test modules.
#[derive(Default)]
struct Collector {
    functions: Vec<Function>,
}

/// Returns the counts for the closing line.
pub(super) fn check(files: &[&SourceFile], findings: &mut Findings) -> Result<String> {
    let (mut count, mut long) = (0, 0);
    for file in files.iter().filter(|file| !is_test(&file.path)) {
        for function in functions(&file.text).with_context(|| format!("failed to parse {}", file.path.display()))? {
            count += 1;
            if function.lines > LINES_BUDGET {
                long += 1;
                let what = format!("`{}` has {} lines, the budget is {LINES_BUDGET}", function.name, function.lines);
                findings.over_budget(&file.path, function.line, &what);
            }
        }
    }
    if long * 100 > count * LONG_PERCENT_MAX {
        let what = format!("{long} of {count} functions are longer than {LINES_BUDGET} lines");
        findings.broken.push(format!("{what}, {LONG_PERCENT_MAX} % are allowed"));
    }
    Ok(format!("{count} functions, {long} longer than {LINES_BUDGET} lines"))
}

fn functions(text: &str) -> Result<Vec<Function>> {
    let mut collector = Collector::default();
    collector.visit_file(&syn::parse_file(text)?);
    Ok(collector.functions)
}

impl Collector {
    /// A function from the line of its name to its closing brace; its comments and attributes do not count.
    fn add(&mut self, name: &syn::Ident, closing_brace: Span) {
        let (first, last) = (name.span().start().line, closing_brace.end().line);
        self.functions.push(Function { name: name.to_string(), line: first, lines: last - first + 1 });
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        if !module.attrs.iter().any(test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig.ident, function.block.brace_token.span.close());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig.ident, function.block.brace_token.span.close());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig.ident, block.brace_token.span.close());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_wherever_they_stand_but_not_in_test_modules() {
        let text = "/// Doc.\n#[inline]\nfn a(\n    x: i32,\n) -> &'static str {\n    \"}\"\n}\n\
                    impl X {\n    fn b() { /* } */ }\n}\n\
                    trait Y {\n    fn c();\n    fn d() {\n    }\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn e() {}\n}\n";
        let found = functions(text).expect("it parses");
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, [("a", 3, 5), ("b", 9, 1), ("d", 13, 2)]);
    }
}
