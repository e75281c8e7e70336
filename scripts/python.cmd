@echo off
rem Called by up.cmd, test.cmd and doctor.cmd: sets LAB_PYTHON to a Python from 3.11 on, which is the
rem variable PYTHON, what the launcher py starts, or the one in the search path.
set "LAB_PYTHON="
rem The launcher would start the Python of an activated .venv, which could then not be replaced.
set "VIRTUAL_ENV="
if defined PYTHON goto given
call :try py -3 && exit /b 0
call :try python && exit /b 0
call :try python3 && exit /b 0
echo error: no Python 3.11 or newer was found 1>&2
echo next: winget install Python.Python.3.13, then open a new terminal; or set its path: set PYTHON=C:\path\to\python.exe 1>&2
exit /b 1

:given
call :try "%PYTHON%" && exit /b 0
echo error: PYTHON=%PYTHON% is not Python 3.11 or newer 1>&2
exit /b 1

:try
%* -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>nul || exit /b 1
set LAB_PYTHON=%*
exit /b 0
