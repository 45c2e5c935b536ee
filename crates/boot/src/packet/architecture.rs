//! Which firmware asks: the codes of option 93 (RFC 4578 §2.1 and the registry that continues it).
//!
//! 7 and 9 are treated alike: the RFC's text and practice disagree on which of them is x86-64, and
//! firmware of both opinions exists.

use std::fmt;

/// A client architecture code as it stands in option 93.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Architecture(pub u16);

/// What kind of boot program an architecture runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cpu {
    /// x86 with a BIOS.
    Bios,
    /// 32-bit x86 with UEFI.
    Ia32,
    /// 64-bit x86 with UEFI.
    X64,
    /// 32-bit Arm with UEFI.
    Arm32,
    /// 64-bit Arm with UEFI.
    Arm64,
    /// 64-bit RISC-V with UEFI.
    RiscV64,
    /// The boot ROM of a Raspberry Pi.
    RaspberryPi,
}

/// How the firmware fetches its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// By name over TFTP.
    Tftp,
    /// By URL over HTTP ("HTTP boot").
    Http,
}

impl Architecture {
    /// First code that is a UEFI one; dnsmasq sends all from here on to port 4011.
    pub const FIRST_UEFI: Self = Self(6);

    /// The kind of program and the way to it; none where larder has nothing to serve.
    pub fn platform(self) -> Option<(Cpu, Transport)> {
        Some(match self.0 {
            0 => (Cpu::Bios, Transport::Tftp),
            6 => (Cpu::Ia32, Transport::Tftp),
            7 | 9 => (Cpu::X64, Transport::Tftp),
            10 => (Cpu::Arm32, Transport::Tftp),
            11 => (Cpu::Arm64, Transport::Tftp),
            15 => (Cpu::Ia32, Transport::Http),
            16 | 17 => (Cpu::X64, Transport::Http),
            18 => (Cpu::Arm32, Transport::Http),
            19 => (Cpu::Arm64, Transport::Http),
            20 => (Cpu::Bios, Transport::Http),
            27 => (Cpu::RiscV64, Transport::Tftp),
            28 => (Cpu::RiscV64, Transport::Http),
            41 => (Cpu::RaspberryPi, Transport::Tftp),
            _ => return None,
        })
    }

    /// The code of the same machine when it fetches by TFTP, as the iPXE does that HTTP boot loaded.
    #[must_use]
    pub fn by_tftp(self) -> Self {
        Self(match self.0 {
            15 => 6,
            16 => 7,
            17 => 9,
            18 => 10,
            19 => 11,
            20 => 0,
            28 => 27,
            code => code,
        })
    }

    /// Finds the code for a name as people write it on a command line: `bios`, `x64`, `arm64`, `http`,
    /// a dnsmasq name or a number.
    pub fn from_name(name: &str) -> Option<Self> {
        let by_word = match name.to_ascii_lowercase().as_str() {
            "bios" | "pc" => Some(0),
            "ia32" | "i386" => Some(6),
            "x64" | "uefi" | "x86_64" | "x86-64" => Some(7),
            "arm64" | "aarch64" => Some(11),
            "http" | "uefi-http" => Some(16),
            "pi" | "raspberry-pi" => Some(41),
            _ => None,
        };
        by_word
            .or_else(|| Self::from_service_name(name).map(|code| code.0))
            .or_else(|| name.parse().ok())
            .map(Self)
    }

    /// Finds the code for one of dnsmasq's `pxe-service` names, in any case of letters.
    pub fn from_service_name(name: &str) -> Option<Self> {
        const NAMES: [&str; 12] = [
            "x86PC",
            "PC98",
            "IA64_EFI",
            "Alpha",
            "Arc_x86",
            "Intel_Lean_Client",
            "IA32_EFI",
            "x86-64_EFI",
            "Xscale_EFI",
            "BC_EFI",
            "ARM32_EFI",
            "ARM64_EFI",
        ];
        let place = NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))?;
        u16::try_from(place).ok().map(Self)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "x86 BIOS",
            1 => "PC-98",
            2 => "Itanium UEFI",
            3 => "Alpha",
            4 => "Arc x86",
            5 => "Intel lean client",
            6 => "32-bit x86 UEFI",
            7 => "x86-64 UEFI",
            8 => "Xscale UEFI",
            9 => "EFI byte code (x86-64 UEFI)",
            10 => "32-bit Arm UEFI",
            11 => "64-bit Arm UEFI",
            15 => "32-bit x86 UEFI over HTTP",
            16 => "x86-64 UEFI over HTTP",
            17 => "EFI byte code over HTTP",
            18 => "32-bit Arm UEFI over HTTP",
            19 => "64-bit Arm UEFI over HTTP",
            20 => "x86 BIOS over HTTP",
            25 => "32-bit RISC-V UEFI",
            26 => "32-bit RISC-V UEFI over HTTP",
            27 => "64-bit RISC-V UEFI",
            28 => "64-bit RISC-V UEFI over HTTP",
            29 => "128-bit RISC-V UEFI",
            30 => "128-bit RISC-V UEFI over HTTP",
            41 => "Raspberry Pi",
            _ => return write!(out, "architecture {}", self.0),
        };
        write!(out, "{name}")
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Bios => "x86 BIOS",
            Self::Ia32 => "32-bit x86 UEFI",
            Self::X64 => "x86-64 UEFI",
            Self::Arm32 => "32-bit Arm UEFI",
            Self::Arm64 => "64-bit Arm UEFI",
            Self::RiscV64 => "64-bit RISC-V UEFI",
            Self::RaspberryPi => "Raspberry Pi",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_and_nine_run_the_same_program() {
        assert_eq!(Architecture(7).platform(), Architecture(9).platform());
        assert_eq!(Architecture(16).platform(), Architecture(17).platform());
    }

    #[test]
    fn service_names_are_read_in_any_case() {
        for name in ["x86PC", "X86PC", "x86pc"] {
            assert_eq!(Architecture::from_service_name(name), Some(Architecture(0)));
        }
        assert_eq!(
            Architecture::from_service_name("ARM64_EFI"),
            Some(Architecture(11))
        );
        assert_eq!(Architecture::from_service_name("sparc"), None);
    }

    #[test]
    fn what_has_no_program_has_no_platform() {
        for code in [1, 2, 3, 4, 5, 8, 12, 25, 29, 99, u16::MAX] {
            assert_eq!(Architecture(code).platform(), None, "{code}");
        }
    }
}
