//! MD5 and SHA256 of the UTF-8 form, in lower-case hexadecimal digits.

use md5::{Digest, Md5};
use millstream_api::graph::SqlType;
use sha2::Sha256;

use super::{ArgInfo, Binding, Function};
use crate::expr::operand::text_rows;

pub fn bind(name: &str, _args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    Ok(match name {
        "MD5" => Some(digest::<Md5>()),
        "SHA256" => Some(digest::<Sha256>()),
        _ => None,
    })
}

fn digest<D: Digest>() -> Function {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    Function::total(|call| {
        let strings = call.args[0].text();
        text_rows(call.rows, |row, out| {
            let Some(text) = strings.get(row) else {
                return Ok(false);
            };
            for byte in D::digest(text.as_bytes()) {
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
            Ok(true)
        })
    })
}
