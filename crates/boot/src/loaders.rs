//! The boot programs on this host: iPXE as distributions package it, or what lies in the boot root.
//!
//! iPXE's licence keeps its binaries out of larder, so they are found where packages put them. A file
//! counts for an architecture only if its header says so: a 32-bit program under a 64-bit name would hang
//! the machine without a word.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::decide::rules::Programs;
use crate::look::Looks;
use crate::packet::architecture::Cpu;

/// Folders of the distributions' iPXE packages.
pub const FOLDERS: [&str; 5] = [
    "/usr/lib/ipxe",
    "/usr/share/ipxe",
    "/usr/lib/ipxe/qemu",
    "/usr/share/ipxe/arm64-efi",
    "/boot",
];

/// Which signed chain UEFI machines get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecureBoot {
    /// iPXE itself, unsigned.
    #[default]
    Off,
    /// A signed shim that loads iPXE; a proxy cannot see whether Secure Boot is on, so all get it.
    Shim,
}

/// Names by kind of program, best first. Files of the root may carry the architecture in their path.
const NAMES: &[(Cpu, &[&str])] = &[
    (Cpu::Bios, &["undionly.kpxe", "undionly.kkpxe", "ipxe.pxe"]),
    (
        Cpu::X64,
        &[
            "snponly.efi",
            "ipxe.efi",
            "x86_64-efi/snponly.efi",
            "ipxe-x86_64.efi",
            "snponly-x86_64.efi",
        ],
    ),
    (
        Cpu::Ia32,
        &[
            "i386-efi/snponly.efi",
            "i386-efi/ipxe.efi",
            "ipxe-i386.efi",
            "snponly-i386.efi",
            "ipxe32.efi",
        ],
    ),
    (
        Cpu::Arm64,
        &[
            "arm64-efi/snponly.efi",
            "arm64-efi/ipxe.efi",
            "snp-arm64.efi",
            "ipxe-arm64.efi",
            "ipxe-aarch64.efi",
        ],
    ),
    (Cpu::Arm32, &["arm32-efi/snponly.efi", "ipxe-arm32.efi"]),
    (
        Cpu::RiscV64,
        &["riscv64-efi/snponly.efi", "ipxe-riscv64.efi"],
    ),
];

/// Shims that load iPXE; the second stage is served from the root under the name that they ask for.
const SHIMS: &[(Cpu, &[&str])] = &[
    (
        Cpu::X64,
        &["snponly-shimx64.efi", "ipxe-shimx64.efi", "shimx64.efi"],
    ),
    (
        Cpu::Arm64,
        &["snponly-shimaa64.efi", "ipxe-shimaa64.efi", "shimaa64.efi"],
    ),
];

/// What was found, and what not.
#[derive(Debug, Clone, Default)]
pub struct Loaders {
    /// Programs by kind, as decisions name them.
    pub programs: Programs,
    /// Every servable program's path by its name.
    pub paths: HashMap<String, PathBuf>,
    /// Kinds without a program, with what to install.
    pub missing: Vec<Missing>,
}

/// A kind of firmware that nothing can be served to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// The kind.
    pub architecture: String,
    /// What to do.
    pub mend: String,
}

/// Looks for boot programs in `root` first, then in the packages' folders. What does not answer is not there.
pub fn find(root: Option<&Path>, secure_boot: SecureBoot, looks: &Looks) -> Loaders {
    if let Some(root) = root {
        // One that hangs as a whole is found out here once, and not by each name.
        let first = |root: &Path| root.read_dir().ok()?.next()?.ok();
        let _answer = looks.at(root, first);
    }
    let folders: Vec<PathBuf> = root
        .map(Path::to_owned)
        .into_iter()
        .chain(FOLDERS.map(PathBuf::from))
        .collect();
    find_in(&folders, secure_boot, looks)
}

fn find_in(folders: &[PathBuf], secure_boot: SecureBoot, looks: &Looks) -> Loaders {
    let program = |name: &str, cpu| program(folders, name, cpu, looks);
    let mut found = Loaders::default();
    for (cpu, names) in NAMES {
        let shims = SHIMS
            .iter()
            .filter(|(of, _)| of == cpu && secure_boot == SecureBoot::Shim);
        let shims = shims.flat_map(|(_, names)| names.iter());
        let program = shims
            .chain(names.iter())
            .find_map(|name| Some((*name, program(name, *cpu)?)));
        match program {
            Some((name, path)) => {
                found.programs.by_cpu.insert(*cpu, name.to_owned());
                found.paths.insert(name.to_owned(), path);
            }
            None if matches!(cpu, Cpu::Bios | Cpu::X64 | Cpu::Arm64) => {
                found.missing.push(missing(*cpu));
            }
            None => {}
        }
    }
    if let Some(path) = program("ipxe.pxe", Cpu::Bios) {
        found.programs.bios_with_drivers = Some("ipxe.pxe".to_owned());
        found.paths.insert("ipxe.pxe".to_owned(), path);
    }
    let usual = [
        ("undionly.kpxe", Cpu::Bios),
        ("ipxe.pxe", Cpu::Bios),
        ("ipxe.lkrn", Cpu::Bios),
        ("ipxe.efi", Cpu::X64),
        ("snponly.efi", Cpu::X64),
    ];
    for (name, cpu) in usual {
        if let Some(path) = program(name, cpu) {
            found.paths.entry(name.to_owned()).or_insert(path);
        }
    }
    found
}

fn missing(cpu: Cpu) -> Missing {
    let mend = match cpu {
        Cpu::Arm64 => {
            "install ipxe-bootimgs-aarch64 (Fedora, EL) or put snp-arm64.efi into boot.root"
        }
        Cpu::X64 => {
            "install ipxe (Debian, Ubuntu), ipxe-bootimgs-x86 (Fedora, EL), ipxe-bootimgs (openSUSE), or put \
             snponly.efi into boot.root"
        }
        _ => {
            "install ipxe (Debian, Ubuntu), ipxe-bootimgs-x86 (Fedora, EL), ipxe-bootimgs (openSUSE), or put \
             undionly.kpxe into boot.root"
        }
    };
    Missing {
        architecture: cpu.to_string(),
        mend: mend.to_owned(),
    }
}

fn program(folders: &[PathBuf], name: &str, cpu: Cpu, looks: &Looks) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| looks.at(path, move |path| is_for(path, cpu)) == Some(true))
}

/// Tells whether the file's header fits the kind: a PE image of the right machine for UEFI, no PE image
/// for BIOS.
fn is_for(path: &Path, cpu: Cpu) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let machine = pe_machine(&file);
    let wanted = match cpu {
        Cpu::Bios => {
            return machine.is_none() && file.metadata().is_ok_and(|state| state.len() > 0);
        }
        Cpu::Ia32 => 0x014c,
        Cpu::X64 => 0x8664,
        Cpu::Arm32 => 0x01c2,
        Cpu::Arm64 => 0xaa64,
        Cpu::RiscV64 => 0x5064,
        Cpu::RaspberryPi => return false,
    };
    machine == Some(wanted)
}

/// The machine type of a PE image (`MZ`, the offset at 0x3c, `PE\0\0`, then the machine).
fn pe_machine(file: &File) -> Option<u16> {
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    let [b'M', b'Z', .., a, b, c, d] = head else {
        return None;
    };
    let mut image = [0; 6];
    file.read_exact_at(&mut image, u32::from_le_bytes([a, b, c, d]).into())
        .ok()?;
    let [b'P', b'E', 0, 0, low, high] = image else {
        return None;
    };
    Some(u16::from_le_bytes([low, high]))
}

/// Tells whether a link may lead to this file though it lies outside the boot root: it belongs to a
/// distribution's iPXE package.
pub fn is_boot_program(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_listed = path
        .parent()
        .is_some_and(|folder| FOLDERS.iter().any(|known| Path::new(known) == folder));
    is_listed
        && (!path.starts_with("/boot") || name.starts_with("ipxe") || name.starts_with("snponly"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pe(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 64;
        bytes[64..68].copy_from_slice(b"PE\0\0");
        bytes[68..70].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn a_program_counts_for_the_machine_in_its_header() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("snponly.efi"), pe(0x014c)).unwrap();
        std::fs::write(folder.path().join("ipxe.efi"), pe(0x8664)).unwrap();
        std::fs::write(folder.path().join("undionly.kpxe"), b"rom").unwrap();
        let found = find_in(
            &[folder.path().to_owned()],
            SecureBoot::Off,
            &Looks::default(),
        );
        assert_eq!(
            found.programs.by_cpu.get(&Cpu::X64).map(String::as_str),
            Some("ipxe.efi")
        );
        assert_eq!(
            found.programs.by_cpu.get(&Cpu::Bios).map(String::as_str),
            Some("undionly.kpxe")
        );
        assert_eq!(found.missing.len(), 1);
        assert!(found.missing[0].architecture.contains("Arm"));
    }

    #[test]
    fn a_program_that_does_not_answer_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let hung = folder.path().join("undionly.kpxe");
        for name in ["undionly.kpxe", "undionly.kkpxe"] {
            std::fs::write(folder.path().join(name), b"rom").unwrap();
        }
        let looks = crate::look::hung::silent_at(&hung);
        let found = find_in(&[folder.path().to_owned()], SecureBoot::Off, &looks);
        assert_eq!(
            found.programs.by_cpu.get(&Cpu::Bios).map(String::as_str),
            Some("undionly.kkpxe")
        );
    }

    #[test]
    fn with_secure_boot_the_shim_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["snponly.efi", "snponly-shimx64.efi"] {
            std::fs::write(folder.path().join(name), pe(0x8664)).unwrap();
        }
        let name = |secure| {
            find_in(&[folder.path().to_owned()], secure, &Looks::default())
                .programs
                .by_cpu
                .get(&Cpu::X64)
                .cloned()
        };
        assert_eq!(name(SecureBoot::Off).as_deref(), Some("snponly.efi"));
        assert_eq!(
            name(SecureBoot::Shim).as_deref(),
            Some("snponly-shimx64.efi")
        );
    }

    #[test]
    fn without_packages_each_missing_kind_says_what_to_install() {
        let found = find_in(&[], SecureBoot::Off, &Looks::default());
        assert_eq!(found.missing.len(), 3);
        assert!(
            found
                .missing
                .iter()
                .all(|missing| missing.mend.contains("boot.root"))
        );
    }

    #[test]
    fn only_ipxe_files_of_the_boot_folder_are_boot_programs() {
        assert!(is_boot_program(Path::new("/usr/lib/ipxe/undionly.kpxe")));
        assert!(is_boot_program(Path::new("/boot/ipxe.efi")));
        assert!(!is_boot_program(Path::new("/boot/vmlinuz")));
        assert!(!is_boot_program(Path::new("/etc/passwd")));
    }
}
