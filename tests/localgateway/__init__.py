"""The local gateway's specification; an id such as CONN-02 before it names one known behaviour of AWS."""
