package run

// Supervise is the life of a command, from the last look before its start to its end.
var Supervise = (*Command).supervise

// Under is that and the end of the hold.
var Under = (*Command).under
