@echo off
rem The same as scripts/doctor, for Windows.
setlocal
call "%~dp0python.cmd" || exit /b 1
%LAB_PYTHON% "%~dp0run.py" doctor %*
exit /b %ERRORLEVEL%
