//! GGUF headers written for tests, in memory.

use serde_json::Value;

/// The bytes of a header of version 3 with these keys and no tensors.
pub(crate) fn header(architecture: &str, metadata: &Value) -> Vec<u8> {
    let keys = metadata.as_object().unwrap();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((keys.len() as u64 + 1).to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, architecture);
    for (key, value) in keys {
        text(&mut bytes, key);
        let (kind, list) = match value {
            Value::Array(list) => {
                bytes.extend(9u32.to_le_bytes());
                (kind(&list[0]), list.as_slice())
            }
            one => (kind(one), std::slice::from_ref(one)),
        };
        bytes.extend(kind.to_le_bytes());
        if value.is_array() {
            bytes.extend((list.len() as u64).to_le_bytes());
        }
        for value in list {
            match value {
                Value::Bool(flag) => bytes.push((*flag).into()),
                Value::Number(number) if number.is_i64() || number.is_u64() => {
                    bytes.extend(u32::try_from(number.as_i64().unwrap()).unwrap().to_le_bytes());
                }
                Value::Number(number) => bytes.extend(number.as_f64().unwrap().to_le_bytes()),
                other => panic!("{other}"),
            }
        }
    }
    bytes
}

fn kind(value: &Value) -> u32 {
    match value {
        Value::Bool(_) => 7,
        Value::Number(number) if number.is_f64() => 12,
        Value::Number(_) => 4,
        other => panic!("{other}"),
    }
}

/// A text and its length.
pub(crate) fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
