//! GGUF headers written for tests, in memory.

use serde_json::Value;

/// A header of version 3, written key by key.
pub(crate) struct Writer {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { keys: Vec::new(), key_count: 0, tensors: Vec::new(), tensor_count: 0 }
    }

    /// A header with these keys: texts, flags, numbers, and lists of one of them.
    pub(crate) fn with(architecture: &str, metadata: &Value) -> Self {
        let mut writer = Self::new();
        writer.key("general.architecture", &architecture.into());
        for (key, value) in metadata.as_object().unwrap() {
            writer.key(key, value);
        }
        writer
    }

    pub(crate) fn key(&mut self, key: &str, value: &Value) -> &mut Self {
        let mut bytes = Vec::new();
        let kind = match value {
            Value::Array(list) => {
                bytes.extend(kind(&list[0]).to_le_bytes());
                bytes.extend((list.len() as u64).to_le_bytes());
                for value in list {
                    plain(&mut bytes, value);
                }
                9
            }
            one => {
                plain(&mut bytes, one);
                kind(one)
            }
        };
        self.raw(key, kind, &bytes)
    }

    /// A key whose value is these bytes.
    pub(crate) fn raw(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Self {
        text(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.key_count += 1;
        self
    }

    pub(crate) fn tensor(&mut self, name: &str, dimensions: &[u64], kind: u32) -> &mut Self {
        text(&mut self.tensors, name);
        self.tensors.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
        for dimension in dimensions {
            self.tensors.extend(dimension.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(0u64.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.tensors);
        bytes
    }
}

fn kind(value: &Value) -> u32 {
    match value {
        Value::Bool(_) => 7,
        Value::Number(number) if number.is_f64() => 12,
        Value::Number(_) => 4,
        Value::String(_) => 8,
        other => panic!("{other}"),
    }
}

fn plain(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => bytes.push((*flag).into()),
        Value::Number(number) => match number.as_u64() {
            Some(number) => bytes.extend(u32::try_from(number).unwrap().to_le_bytes()),
            None => bytes.extend(number.as_f64().unwrap().to_le_bytes()),
        },
        Value::String(string) => text(bytes, string),
        other => panic!("{other}"),
    }
}

/// A text and its length.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
