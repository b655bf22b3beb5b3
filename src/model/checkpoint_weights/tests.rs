//! Formulas against what the libraries stored.

use super::{CHECKPOINT_FORMATS, CheckpointFormat, EightBits, Encoding, Holder};

fn bytes(encoding: Encoding, rows: u64, columns: u64) -> u64 {
    encoding.bytes(rows.into(), columns, Holder::Files).get().unwrap()
}

#[test]
fn matrices_have_the_bytes_that_libraries_stored() {
    // Runs of bitsandbytes 0.50.2.
    for (encoding, stored) in [
        (Encoding::Nf4 { double: true }, 23_261_164),
        (Encoding::Nf4 { double: false }, 25_362_579),
        (Encoding::LlmInt8, 45_132_801),
    ] {
        assert_eq!(bytes(encoding, 11_008, 4096), stored, "{encoding:?}");
    }
    let (r, c, g) = (11_008u64, 4096u64, 128u64);
    let packed = |bits, zero_points, index| Encoding::PackedIntegers { bits, group: g, zero_points, index };
    // The formulas of `tests/golden/checkpoint-formats.json`, as they are written there.
    for (encoding, stored) in [
        (Encoding::Awq { group: g }, r * c / 2 + 2 * r * c / g + r * c / (2 * g)),
        (Encoding::Gptq { bits: 4, group: g, index: true }, r * c / 2 + 2 * r * c / g + r * c / (2 * g) + 4 * c),
        (packed(4, false, false), r * c / 2 + 2 * r * c / g + 16),
        (packed(4, true, false), r * c / 2 + 2 * r * c / g + 16 + r.div_ceil(8) * 4 * c / g),
        (packed(4, false, true), r * c / 2 + 2 * r * c / g + 16 + 4 * c),
        (packed(8, false, false), r * c + 2 * r * c / g + 16),
        (Encoding::Rows(EightBits::Float), r * c + 2 * r),
        (Encoding::Whole { scalars: 2, scalar_bytes: 2 }, r * c + 2 + 2),
        (Encoding::Tiles { rows: 128, columns: 128, scale_bytes: 2 }, r * c + 2 * (r / 128) * (c / 128)),
        (Encoding::Nvfp4 { scalars: 2 }, r * c / 2 + r * c / 16 + 4 + 4),
        (Encoding::Nvfp4 { scalars: 1 }, r * c / 2 + r * c / 16 + 4),
        (Encoding::Mxfp4, r * c / 2 + r * c / 32),
        (Encoding::Mxfp8, r * c + r * c / 32),
        (Encoding::Exl3 { millibits: 3500 }, r * c * 7 / 16 + 2 * (r + c)),
        (Encoding::Mlx { bits: 4, group: 64 }, r * c / 2 + 4 * r * c / 64),
        (Encoding::Mlx { bits: 8, group: 64 }, r * c + 4 * r * c / 64),
        (Encoding::Hqq { bits: 4, group: 64 }, r * c / 2 + 4 * r * c / 64),
    ] {
        assert_eq!(bytes(encoding, r, c), stored, "{encoding:?}");
    }
    // What engines hold: scales in single precision.
    let held = Encoding::Rows(EightBits::Integer).bytes(r.into(), c, Holder::Engine).get().unwrap();
    assert_eq!(held, r * c + 4 * r);
}

#[test]
fn names_are_read_in_any_spelling_and_none_is_of_two_formats() {
    for (typed, name) in [
        ("AWQ", "awq"),
        ("W4A16", "w4a16"),
        ("bnb_nf4", "bnb-nf4"),
        ("LLM.int8", "bnb-int8"),
        ("MLX 4bit", "mlx-4bit"),
        ("FP8_DYNAMIC", "fp8"),
        ("exl2-4.0bpw", "exl2-4.0bpw"),
        ("EXL3_3.25", "exl3-3.25bpw"),
        ("exl2-6bpw", "exl2-6.0bpw"),
    ] {
        assert_eq!(typed.parse::<CheckpointFormat>().unwrap().to_string(), name, "{typed}");
    }
    for wrong in ["", "exl2-40bpw", "exl2-0.5bpw", "exl3-4.0.0", "awq4.0bpw", "fp9"] {
        assert!(wrong.parse::<CheckpointFormat>().is_err(), "{wrong}");
    }
    for row in CHECKPOINT_FORMATS {
        for name in row.aliases.iter().chain([&row.name]) {
            assert_eq!(name.parse::<CheckpointFormat>().unwrap().row.name, row.name, "{name}");
        }
        assert!(!row.engines.is_empty() || !row.others.is_empty(), "{}: nothing loads it", row.name);
    }
}
