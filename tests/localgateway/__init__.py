"""The local gateway's specification; a conformance id such as CONN-02 names a case of docs/EMULATOR.md."""
