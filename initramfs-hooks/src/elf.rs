//! Whether a program can run in an initramfs that holds no libraries.

/// `PT_INTERP` of elf(5): the program wants a dynamic loader.
const PT_INTERP: u32 = 3;

/// True if `program` is a 64-bit little-endian ELF executable that needs no dynamic loader.
pub fn is_static(program: &[u8]) -> bool {
    wants_loader(program) == Some(false)
}

/// `None`: not an ELF program of that kind. Offsets: `Elf64_Ehdr` and `Elf64_Phdr` of elf(5).
fn wants_loader(program: &[u8]) -> Option<bool> {
    // Magic, 64-bit, little-endian.
    if program.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| (sum << 8) | usize::from(*byte)),
        )
    };
    let (start, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for position in 0..count {
        let kind = number(start.checked_add(position.checked_mul(size)?)?, 4)?;
        if kind == PT_INTERP as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header with one program header of the given kind.
    pub(crate) fn program(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x40 + 0x38];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 0x40;
        bytes[0x36] = 0x38;
        bytes[0x38] = 1;
        bytes[0x40..0x44].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_program_without_a_loader_is_static() {
        assert!(is_static(&program(1)));
        assert!(!is_static(&program(PT_INTERP)));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(&program(1)[..0x40]));
        // This test itself is a real program of the host's kind.
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(wants_loader(&me).is_some());
    }
}
